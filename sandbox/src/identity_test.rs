use super::*;

const USERS: &str =
    "root:x:0:0:root:/root:/bin/bash\nvmm:x:104:110::/nonexistent:/usr/sbin/nologin\nbroken\n";
const GROUPS: &str = "root:x:0:\nkvm:x:108:alice\n";

fn find(text: &str) -> Result<User, IdentityError> {
    User::find_in(text, || Ok(USERS.to_owned()), || Ok(GROUPS.to_owned()))
}

#[test]
fn users_and_groups_have_names_or_numbers() {
    for (text, uid, gid) in
        [("vmm", 104, 110), ("104", 104, 110), ("vmm:kvm", 104, 108), ("7:kvm", 7, 108), ("7:8", 7, 8)]
    {
        assert_eq!(find(text).unwrap(), User { uid, gid }, "{text}");
    }
}

#[test]
fn who_is_not_known_is_named() {
    for (text, said) in [
        ("alice", "there is no user alice in /etc/passwd"),
        ("vmm:alice", "there is no group alice in /etc/group"),
        ("7", "user 7 is not in /etc/passwd, so that its group is not known"),
        ("broken", "there is no user broken in /etc/passwd"),
        ("", "there is no user  in /etc/passwd"),
    ] {
        assert_eq!(find(text).unwrap_err().to_string(), said);
    }
}
