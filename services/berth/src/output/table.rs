//! Plain tables: columns by two spaces, no borders, no colour, no space at the end of a line.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

use super::plain;

/// Lays out rows under a header, one line a row.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lays out names and values, one line each; leaves out what has no value.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let kept = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = kept().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    kept().map(|(name, value)| format!("{:<width$} {}\n", format!("{name}:"), plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain() {
        let rows = [vec!["a".into(), "RUNNING".into()], vec!["longer\nname".into(), String::new()]];
        assert_eq!(
            table(&["NAME", "STATE"], &rows),
            "NAME         STATE\n\
             a            RUNNING\n\
             longer name\n"
        );
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let pairs = [("Id", "j1".to_owned()), ("Name", String::new()), ("Exit code", "0".to_owned())];
        assert_eq!(fields(&pairs), "Id:        j1\nExit code: 0\n");
    }
}
