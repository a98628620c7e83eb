//! What is written is read again, and what is no history is refused.

use super::*;
use crate::history::judge;
use crate::history::tests::{everything, good};

fn written(history: &crate::history::History) -> String {
    let mut bytes = Vec::new();
    write(history, &mut bytes).expect("memory takes it");
    String::from_utf8(bytes).expect("JSON is text")
}

#[test]
fn a_history_is_read_as_it_was_written() {
    for history in [good(), everything()] {
        let text = written(&history);
        let again = read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(written(&again), text);
        assert_eq!(judge(&again), judge(&history));
    }
}

#[test]
fn a_line_that_is_none_of_a_history_is_named() {
    let cases = [
        ("{}", "missing field `type`"),
        ("{\"type\":\"song\"}", "unknown variant `song`"),
        ("{\"type\":\"change\",\"revision\":1}", "one of job, deleted, executor and leader"),
        ("{\"type\":\"change\",\"revision\":1,\"job\":{\"id\":\"a\",\"state\":\"ASLEEP\"}}", "no state"),
        ("{\"type\":\"told\",\"watch\":0,\"resync\":true}", "numbered from 1"),
        (
            "{\"type\":\"run\",\"job\":\"a\",\"attempt\":1,\"executor\":\"e\",\"startedMs\":1,\"endedMs\":2}",
            "together",
        ),
    ];
    for (line, reason) in cases {
        let text = format!("\n{line}\n");
        let error = read(text.as_bytes()).expect_err(line).to_string();
        assert!(error.starts_with("line 2: ") && error.contains(reason), "{line}: {error}");
    }
}
