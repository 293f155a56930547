use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::*;
use crate::grammar::types::Size;

/// A machine.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Machine {
    /// How it is
    /// called.
    ///
    /// By whom is left open.
    name: Option<String>,
    /// RAM.
    #[serde(default)]
    memory: Size,
    /// Disks.
    disk: Vec<Disk>,
    /// Its console.
    console: Option<Console>,
    /// Off or on.
    power: Option<Power>,
    /// CPUs.
    cpus: Vec<u8>,
    /// Quick.
    quick: bool,
    /// Locked.
    #[serde(default = "yes")]
    locked: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Disk {
    /// Its image.
    #[schemars(extend("x-value" = "FILE"))]
    path: PathBuf,
    /// Read only.
    #[serde(default)]
    ro: bool,
    /// How fast.
    rate: Option<Rate>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rate {
    /// Per second.
    bytes: Option<Size>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Console {
    /// None.
    Off,
    /// To a file.
    #[schemars(extend("x-value" = "FILE"))]
    File(PathBuf),
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Power {
    Off,
    On,
}

#[test]
fn options_are_the_fields() {
    let options = options::<Machine>();
    let shown: Vec<String> = options.iter().map(usage).collect();
    assert_eq!(
        shown,
        [
            "name=TEXT",
            "memory=SIZE",
            "disk=FILE[,KEY=VALUE]...",
            "console=off|file=FILE",
            "power=off|on",
            "cpus=N,...",
            "quick",
            "locked=BOOLEAN"
        ]
    );
    assert_eq!(options[0].text, "How it is called.\n\nBy whom is left open.");
    assert_eq!(options[1].default.as_deref(), Some("0"));
    let Shape::List(disk) = &options[2].shape else { panic!() };
    let Shape::Group(keys) = disk.as_ref() else { panic!() };
    assert_eq!(keys.iter().map(usage).collect::<Vec<_>>(), ["path=FILE", "ro", "rate.KEY=VALUE"]);
    assert!(matches!(keys[2].shape, Shape::Group(_)));
}

#[test]
fn the_schema_takes_short_forms_and_no_null() {
    let schema = json::<Machine>();
    assert!(!schema.to_string().contains("null"), "{schema:#}");
    let disks = &schema["properties"]["disk"]["anyOf"];
    assert_eq!((&disks[0], &disks[1]["type"]), (&disks[1]["items"], &json!("array")));
    let disk = &disks[0]["anyOf"];
    assert_eq!((&disk[0]["type"], &disk[1]["type"]), (&json!("string"), &json!("object")));
    assert_eq!(disk[1]["additionalProperties"], json!(false));
}
