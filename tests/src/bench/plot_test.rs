use super::*;

fn bar(name: &str, own: bool, length: f64) -> Bar {
    Bar { name: name.to_owned(), own, length, whiskers: [length * 0.9, length * 1.2] }
}

/// The value of an attribute of each element `tag` that has the colour.
fn values(svg: &str, tag: &str, colour: &str, attribute: &str) -> Vec<f64> {
    let lines = svg.lines().filter(|line| line.starts_with(&format!("<{tag} ")) && line.contains(colour));
    let value = |line: &str| line.split_once(&format!(" {attribute}=\""))?.1.split('"').next()?.parse().ok();
    lines.filter_map(value).collect()
}

#[test]
fn bars_are_as_long_as_what_was_measured_and_told_apart() {
    let bars = vec![bar("vmm", true, 1.0), bar("QEMU <microvm>", false, 3.0)];
    let svg = svg("start", &Plot { axis: "ms", bars }).unwrap();
    let (own, peer) = (values(&svg, "rect", "#1F77B4", "width"), values(&svg, "rect", "#AAAAAA", "width"));
    assert!((peer[0] / own[0] - 3.0).abs() < 0.03, "{own:?} {peer:?}");
    assert!(values(&svg, "rect", "#1F77B4", "y") < values(&svg, "rect", "#AAAAAA", "y"), "{svg}");
    for text in ["\nvmm\n", "\nQEMU &lt;microvm&gt;\n", "\nms\n", "\nstart\n"] {
        assert!(svg.contains(text), "{text} {svg}");
    }
}

#[test]
fn whiskers_reach_from_quartile_to_quartile() {
    let svg = svg("start", &Plot { axis: "ms", bars: vec![bar("vmm", true, 2.0)] }).unwrap();
    let width = values(&svg, "rect", "#1F77B4", "width")[0];
    let left = values(&svg, "rect", "#1F77B4", "x")[0];
    let across = |line: &str| -> Option<[f64; 2]> {
        let points = line.strip_prefix("<polyline ")?.split_once("points=\"")?.1.split('"').next()?;
        let points: Vec<(f64, f64)> = points
            .split_whitespace()
            .filter_map(|point| point.split_once(','))
            .filter_map(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)))
            .collect();
        let [(from, above), (to, below)] = points.as_slice() else { return None };
        (above == below && *from > left + width / 2.0).then_some([*from, *to])
    };
    let [from, to] = svg.lines().find_map(across).unwrap();
    assert!(((from - left) / width - 0.9).abs() < 0.02 && ((to - left) / width - 1.2).abs() < 0.02, "{svg}");
}

#[test]
fn nothing_measured_is_no_picture() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.svg");
    write(&path, "none", &Plot { axis: "ms", bars: Vec::new() }).unwrap();
    assert!(!path.exists());
}
