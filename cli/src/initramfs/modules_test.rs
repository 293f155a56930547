use super::*;

const ALIASES: &str = "\
# Aliases extracted from modules themselves.
alias nvme-fc nvme_fc
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias pci:v0000106Bd00002005sv*sd*bc*sc*i* nvme
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e_other
alias
garbage without meaning
";
const DEP: &str = "\
kernel/drivers/nvme/host/nvme.ko.xz: kernel/drivers/nvme/host/nvme-core.ko.xz kernel/drivers/nvme/common/nvme-auth.ko.xz
kernel/drivers/nvme/host/nvme-core.ko.xz: kernel/drivers/nvme/common/nvme-auth.ko.xz
kernel/drivers/nvme/common/nvme-auth.ko.xz:
kernel/e1000e.ko:
../../../etc/evil.ko:
/etc/evil2.ko:
no colon
";
const NVME: &str = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
const NIC: &str = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00";

fn order(dependencies: &str, wanted: &[&str]) -> (Vec<String>, Vec<String>) {
    let (order, notes) = Dependencies::parse(dependencies).load_order(wanted);
    (order.into_iter().map(module_name).collect(), notes)
}

#[test]
fn an_alias_gives_its_modules_once() {
    assert_eq!(modules_for(ALIASES, NVME), ["nvme"]);
    assert_eq!(modules_for(ALIASES, NIC), ["e1000e", "e1000e_other"]);
    assert_eq!(modules_for(ALIASES, "pci:v0000106Bd00002005svsdbc01sc08i02"), ["nvme"]);
    assert!(modules_for(ALIASES, "usb:v1").is_empty());
}

#[test]
fn dependencies_come_first_and_once() {
    let (loaded, notes) = order(DEP, &["nvme", "nvme_core", "e1000e"]);
    assert_eq!(loaded, ["nvme_auth", "nvme_core", "nvme", "e1000e"]);
    assert!(notes.is_empty());
}

#[test]
fn cycles_missing_modules_and_foreign_paths_are_survived() {
    let (loaded, notes) = order("a.ko: b.ko\nb.ko: a.ko c.ko\n", &["a", "a"]);
    assert_eq!(loaded, ["b", "a"]);
    assert_eq!(notes, ["module c is not in modules.dep"]);
    assert_eq!(order(DEP, &["evil", "evil2"]).0, Vec::<String>::new());
    let chain: String = (0..100_000).map(|n| format!("m{n}.ko: m{}.ko\n", n + 1)).collect();
    assert_eq!(order(&chain, &["m0"]).0.len(), 100_000);
}

#[test]
fn a_modules_directory_is_resolved() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("modules.alias"), ALIASES).unwrap();
    std::fs::write(dir.path().join("modules.dep"), DEP).unwrap();
    let set = resolve(dir.path(), &[NVME.to_owned(), "pci:nothing".to_owned()]);
    let names: Vec<_> = set.files.iter().map(|path| module_name(path.to_str().unwrap())).collect();
    assert_eq!(names, ["nvme_auth", "nvme_core", "nvme"]);
    assert!(set.files.iter().all(|path| path.starts_with(dir.path())));
    assert_eq!(set.notes, ["no module claims pci:nothing: its driver is built in, or there is none"]);
}

#[test]
fn an_absent_directory_is_a_note() {
    let set = resolve(Path::new("/nonexistent"), &[NVME.to_owned()]);
    assert!(set.files.is_empty());
    let note = "no modules in /nonexistent, built-in drivers only";
    assert!(set.notes[0].starts_with(note), "{}", set.notes[0]);
    assert_eq!(resolve(Path::new("/nonexistent"), &[]), ModuleSet::default());
}

#[test]
fn modaliases_come_from_sysfs() {
    let sys = tempfile::tempdir().unwrap();
    let device = sys.path().join("bus/pci/devices/0000:00:01.0");
    std::fs::create_dir_all(&device).unwrap();
    std::fs::write(device.join("modalias"), format!("{NVME}\n")).unwrap();
    assert_eq!(modaliases(sys.path(), ["0000:00:01.0", "0000:00:02.0"]), [NVME]);
}
