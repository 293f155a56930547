use super::*;

#[test]
fn sizes_have_binary_suffixes() {
    for (text, bytes) in
        [("0", 0), ("4096", 4096), ("512M", 512 << 20), ("4g", 4 << 30), ("2GiB", 2 << 30), ("12T", 12 << 40)]
    {
        assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
    }
    for text in ["", "M", "1.5G", "-1", "+1", "1X", "16777216T", "99999999999999999999", "5é"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

#[test]
fn durations_have_units() {
    for (text, us) in [
        ("10s", 10_000_000),
        ("10", 10_000_000),
        ("500ms", 500_000),
        ("200us", 200),
        ("2m", 120_000_000),
        ("0s", 0),
    ] {
        assert_eq!(text.parse::<Duration>().unwrap().0, Time::from_micros(us), "{text}");
    }
    for text in ["", "s", "1h", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615s"] {
        assert!(text.parse::<Duration>().is_err(), "{text}");
    }
}

#[test]
fn lists_of_cpus_have_an_order() {
    for (text, cpus, printed) in [
        ("2", vec![2], "2"),
        ("2-5,8", vec![2, 3, 4, 5, 8], "2-5,8"),
        ("3,2", vec![3, 2], "3,2"),
        ("0,1,7-7", vec![0, 1, 7], "0-1,7"),
        ("8191", vec![8191], "8191"),
    ] {
        assert_eq!(text.parse::<Cpus>().unwrap(), Cpus(cpus), "{text}");
        assert_eq!(text.parse::<Cpus>().unwrap().to_string(), printed);
    }
    for text in ["", ",", "1,", "-1", "1-", "5-2", "a", "1.5", "8192", "0-4294967295", "1 ,2"] {
        assert!(text.parse::<Cpus>().is_err(), "{text}");
    }
}

#[test]
fn what_is_printed_can_be_read() {
    for text in ["0", "1", "4096K", "4K", "1023", "512M", "1025M", "4G", "3T"] {
        let size: Size = text.parse().unwrap();
        assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
    }
    assert_eq!(
        (Size(4 << 30).to_string(), Size(1536 << 20).to_string()),
        ("4G".to_owned(), "1536M".to_owned())
    );
    for text in ["0s", "1us", "1500us", "1ms", "500ms", "30s", "90s", "2m"] {
        assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
    }
}
