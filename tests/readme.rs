//! README.md says what is so.

use std::fmt::Write;

use leveret::models::registry::FAMILIES;

const README: &str = include_str!("../README.md");

#[test]
fn the_table_of_architectures_is_the_registrys() {
    let mut table = String::from("| family | `model_type` |\n|---|---|\n");
    for family in FAMILIES {
        writeln!(table, "| {} | `{}` |", family.name, family.model_types.join("`, `")).unwrap();
    }
    assert!(README.contains(&table), "README.md should contain:\n{table}");
}

#[test]
fn a_command_stands_near_the_top() {
    let line = README.lines().position(|line| line.starts_with("cargo run --release -- generate"));
    assert!(line.is_some_and(|line| line < 25), "{line:?}");
}
