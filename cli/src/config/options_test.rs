use super::*;
use crate::config::Config;
use crate::grammar::schema::{self, Shape};

fn look(shape: &Shape) -> Look {
    match shape {
        Shape::Switch => Look::Switch,
        Shape::Text => Look::Text,
        Shape::Group(_) | Shape::Choice(_) => Look::Keys,
        Shape::List(item) => match **item {
            Shape::Group(_) | Shape::Choice(_) => Look::ListOfKeys,
            _ => Look::List,
        },
    }
}

#[test]
fn flags_are_the_fields() {
    let mut fields = String::new();
    for option in schema::options::<Config>() {
        fields += &format!("(\"{}\", Look::{:?}),\n", option.name, look(&option.shape));
    }
    let mut flags = String::new();
    for (name, look) in OPTIONS {
        flags += &format!("(\"{name}\", Look::{look:?}),\n");
    }
    assert_eq!(flags, fields, "to be written into OPTIONS:\n{fields}");
}
