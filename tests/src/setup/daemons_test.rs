use super::*;

#[test]
fn libraries_are_where_programs_look_for_them() {
    assert_eq!(Daemons::place(Path::new("/c/virtiofsd/virtiofsd")), "/lab/virtiofsd");
    assert_eq!(Daemons::place(Path::new("/c/lib/ld-linux-x86-64.so.2")), "/lib64/ld-linux-x86-64.so.2");
    assert_eq!(Daemons::place(Path::new("/c/lib/libc.so.6")), "/lib/x86_64-linux-gnu/libc.so.6");
}
