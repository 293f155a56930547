use std::collections::HashSet;

use super::*;

#[test]
fn nothing_is_said_twice() {
    for role in Role::ALL {
        let mut seen: Vec<(&str, c_long, When)> = Vec::new();
        for row in TABLE.iter().filter(|row| row.roles.contains(&role)) {
            for Rule { call, when, .. } in row.rules {
                let name = crate::names::name(*call as usize);
                // The same call with other arguments is another rule, unless one of the two takes any.
                let before = seen.iter().find(|(_, other, how)| {
                    other == call && (how == when || When::Always == *how || When::Always == *when)
                });
                assert!(before.is_none(), "{role:?}: {name} in `{}` and `{}`", row.what, before.unwrap().0);
                seen.push((row.what, *call, *when));
            }
        }
    }
}

#[test]
fn a_row_names_innermost_roles_only() {
    for row in TABLE {
        for role in row.roles {
            let outer = row.roles.iter().find(|it| **it != *role && it.may(*role));
            assert_eq!(outer, None, "`{}`: {role:?} is started by it", row.what);
        }
    }
    let purposes: HashSet<_> = TABLE.iter().map(|row| row.what).collect();
    assert_eq!(purposes.len(), TABLE.len());
}
