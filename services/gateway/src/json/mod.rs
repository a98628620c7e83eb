//! The JSON rules of Berth: what REST and `berth -o json` print, and what REST and `berth submit -f` read.
//!
//! | item | out | in |
//! |---|---|---|
//! | names | `lowerCamelCase` | also `snake_case` |
//! | 64-bit integers | numbers | also texts |
//! | enums | `"RUNNING"` | also `"running"`, `"JOB_STATE_RUNNING"` |
//! | unset messages and optional fields, unspecified enums | `null` | `null`, or left out |
//! | zeros, empty texts, lists and maps | printed | |
//! | times | RFC 3339, milliseconds, `Z` | RFC 3339 |
//! | durations | `"90s"`, `"1.5s"` | also `90`, `"1h30m"`, `"500ms"` |
//! | bytes | base64 | base64, also its URL-safe alphabet |
//! | `LogEntry` | also `text`: its `data` as UTF-8, what is not UTF-8 replaced by U+FFFD | |
//! | `google.rpc.Status` | the shape of an error body: `code`, `status`, `message`, `details` | |

mod details;
mod input;
mod nearest;
mod output;
mod scalar;
mod strict;
mod sugar;
mod time;

pub(crate) use details::ErrorBody;
pub(crate) use input::{Reader, find_field};
pub(crate) use nearest::nearest;
pub(crate) use scalar::read_enum;
pub(crate) use time::read_duration;

pub use input::{from_json, parse_submit};
pub use output::{decode, render, to_json};
pub use strict::parse;
