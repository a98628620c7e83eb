//! The forms in which a result can be printed. `json` equals the answer of the REST interface.

use clap::ValueEnum;
use serde_json::Value;

use super::{print, print_line};

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For people with wide screens
    Wide,
    /// As the REST interface answers
    Json,
    /// The same as YAML
    Yaml,
    /// Names or ids only, one a line
    Name,
    /// One JSON object a line
    Jsonl,
}

/// A result in all its forms, made only when they are wanted.
pub struct Forms<'a> {
    /// For people; true is wide.
    pub table: &'a dyn Fn(bool) -> String,
    /// As the REST interface answers.
    pub json: &'a dyn Fn() -> anyhow::Result<Value>,
}

/// Prints one thing, whose name is `name`.
///
/// # Errors
/// Fails when it cannot be written.
pub fn print_one(format: Format, name: &str, forms: &Forms<'_>) -> anyhow::Result<()> {
    match format {
        Format::Table => print(&(forms.table)(false)),
        Format::Wide => print(&(forms.table)(true)),
        Format::Json => print_line(&serde_json::to_string_pretty(&(forms.json)()?)?),
        Format::Jsonl => print_line(&(forms.json)()?.to_string()),
        Format::Yaml => print(&serde_yaml_ng::to_string(&(forms.json)()?)?),
        Format::Name => print_line(name),
    }
}

/// Prints a list of things, whose names are `names` and whose JSON stands in a list called `key`.
///
/// # Errors
/// Fails when it cannot be written.
pub fn print_list(format: Format, names: &[&str], key: &str, forms: &Forms<'_>) -> anyhow::Result<()> {
    match format {
        Format::Name => print_lines(names.iter().map(ToString::to_string)),
        Format::Jsonl => match (forms.json)()?.get(key).and_then(Value::as_array) {
            Some(items) => print_items(items),
            None => Ok(()),
        },
        Format::Table | Format::Wide | Format::Json | Format::Yaml => print_one(format, "", forms),
    }
}

/// Prints JSON objects, one a line.
///
/// # Errors
/// Fails when they cannot be written.
pub fn print_items(items: &[Value]) -> anyhow::Result<()> {
    print_lines(items.iter().map(Value::to_string))
}

fn print_lines(lines: impl Iterator<Item = String>) -> anyhow::Result<()> {
    print(&lines.map(|line| line + "\n").collect::<String>())
}
