use super::*;

#[test]
fn a_loaders_list_names_files() {
    let list = "\tlinux-vdso.so.1 (0x00007f11)\n\
                \tlibm.so.6 => /d/usr/lib/libm.so.6 (0x00007f12)\n\
                \tlibz.so.1 => not found\n\
                \t/lib64/ld-linux-x86-64.so.2 => /d/usr/lib/ld-linux-x86-64.so.2 (0x00007f13)\n";
    let expected = ["/d/usr/lib/libm.so.6", "/d/usr/lib/ld-linux-x86-64.so.2"];
    assert_eq!(loaded(list, Path::new("/d/usr/lib")), expected);
}
