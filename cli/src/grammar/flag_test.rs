use proptest::prelude::*;

use super::*;

/// Written out: `word; key=value, key`.
fn shown(value: &Value) -> String {
    let list = |values: &[Value]| values.iter().map(shown).collect::<Vec<_>>().join(" ");
    match &value.form {
        Form::Bare => "!".to_owned(),
        Form::Text(text) => format!("<{text}>"),
        Form::List(values) => format!("[{}]", list(values)),
        Form::Table(table) => {
            let word = table.word.iter().map(|word| shown(word)).collect::<String>();
            let keys: Vec<String> =
                table.keys.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect();
            format!("{{{word}; {}}}", keys.join(" "))
        }
    }
}

#[test]
fn items_are_words_and_keys_with_values() {
    for (text, expected) in [
        ("", "<>"),
        ("4G", "<4G>"),
        ("a.img,ro", "{<a.img>; ro=!}"),
        ("path=a.img,ro,serial=abc", "{; path=<a.img> ro=! serial=<abc>}"),
        ("path=", "{; path=<>}"),
        ("path=a=b", "{; path=<a=b>}"),
        ("path=\"a,b\",ro", "{; path=<a,b> ro=!}"),
        ("\"a,b\",ro", "{<a,b>; ro=!}"),
        ("\"a=b\"", "<a=b>"),
        (r"path=a\,b\\c", r"{; path=<a,b\c>}"),
        (r"a\=b,ro", "{<a=b>; ro=!}"),
        (r#"path="say \"x\"""#, r#"{; path=<say "x">}"#),
        ("path=say \"x\"", "{; path=<say \"x\">}"),
        ("cpus=[0-3,8],size=1G", "{; cpus=[<0-3> <8>] size=<1G>}"),
        ("cpus=[]", "{; cpus=[]}"),
        ("cpus=[[1,2],[3]]", "{; cpus=[[<1> <2>] [<3>]]}"),
        ("rate.bytes=1M,ro,rate.burst=2M", "{; rate={; bytes=<1M> burst=<2M>} ro=!}"),
        ("rate={bytes=1M,burst=2M}", "{; rate={; bytes=<1M> burst=<2M>}}"),
        ("rate={1M,x}", "{; rate={<1M>; x=!}}"),
        ("rate={}", "{; rate={; }}"),
        ("nodes=[{a,b=[1]},c]", "{; nodes=[{<a>; b=[<1>]} <c>]}"),
    ] {
        assert_eq!(shown(&options("--x", text).unwrap()), expected, "{text}");
    }
    assert_eq!(shown(&list("--x", "a,[b,c]").unwrap()), "[<a> [<b> <c>]]");
    assert_eq!(shown(&super::text("--x", "a,b=[c")), "<a,b=[c>");
}

#[test]
fn what_is_not_in_the_grammar_says_why() {
    let deep = format!("a={}", "[".repeat(17));
    for (text, expected) in [
        ("a,", "there is nothing between two commas, or after the last"),
        ("a,,b", "there is nothing between two commas, or after the last"),
        ("=a", "a value has no key"),
        ("a,=b", "a value has no key"),
        ("a,\"b\"", "a value has no key"),
        ("rate..bytes=1", "a value has no key"),
        ("path=\"a", "`\"` is missing at the end"),
        ("cpus=[1,2", "`]` is missing at the end"),
        ("rate={a=1", "`}` is missing at the end"),
        ("path=\"a\"b", "`b` follows where a value has ended"),
        ("cpus=[1]2", "`2` follows where a value has ended"),
        ("path=a\\", "there is nothing after the backslash"),
        ("a,ro,path=b,ro", "`ro` is given twice"),
        ("rate=1,rate.bytes=2", "`rate.bytes` is given twice"),
        ("a,rate.bytes=2,rate.bytes=2", "`rate.bytes` is given twice"),
        (&deep, "lists and tables lie more than 16 deep in each other"),
    ] {
        let error = options("--disk", text).map(|value| shown(&value)).unwrap_err();
        assert_eq!(error.to_string(), format!("--disk `{text}`: {expected}"));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}", marks in "[\\[\\]{}=,.\"\\\\a]{0,40}") {
        for text in [text, marks] {
            let _ = (options("--x", &text), list("--x", &text));
        }
    }

    #[test]
    fn any_value_can_be_written(value in "\\PC{0,20}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let read = options("--x", &format!("a,key=\"{quoted}\",z")).unwrap();
        prop_assert_eq!(shown(&read), format!("{{<a>; key=<{value}> z=!}}"));
        let escaped: String = value.chars().flat_map(|c| ['\\', c]).collect();
        let read = options("--x", &format!("key={escaped},z")).unwrap();
        prop_assert_eq!(shown(&read), format!("{{; key=<{value}> z=!}}"));
    }
}
