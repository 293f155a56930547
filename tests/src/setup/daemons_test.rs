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

#[test]
fn libraries_are_where_programs_look_for_them() {
    assert_eq!(Daemons::place(Path::new("/c/virtiofsd/virtiofsd")), "/lab/virtiofsd");
    assert_eq!(Daemons::place(Path::new("/c/lib/ld-linux-x86-64.so.2")), "/lib64/ld-linux-x86-64.so.2");
    assert_eq!(Daemons::place(Path::new("/c/lib/libc.so.6")), "/lib/x86_64-linux-gnu/libc.so.6");
}
