//! Short query parameters of job lists, `?state=running&label=team=ml`, in the filter language.

use berth_api::status::Problem;
use berth_domain::filter::Filter;

use crate::json::{Reader, read_enum};
use crate::schema;

/// The requests that take the short parameters.
pub(crate) const FILTERED: [&str; 2] = ["berth.v1.ListJobsRequest", "berth.v1.WatchJobsRequest"];

/// Folds the short parameters and `filter` into one filter: alternatives of one parameter are joined by OR,
/// labels and different parameters by AND.
///
/// # Errors
/// Fails only when the API crate was built wrong.
pub(crate) fn fold(
    reader: &mut Reader,
    parameters: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Problem> {
    let mut rest = Vec::new();
    let mut explicit = Vec::new();
    let mut labels = Vec::new();
    let mut alternatives: Vec<(&'static str, Vec<String>)> = Vec::new();
    for (key, value) in parameters {
        let field = match key.as_str() {
            "filter" => {
                explicit.push(value);
                continue;
            }
            "label" | "labels" => {
                labels.extend(label(reader, &value));
                continue;
            }
            "state" => "state",
            "name" | "display_name" | "displayName" => "display_name",
            "namespace" => "namespace",
            "executor" | "executor_id" | "executorId" => "executor_id",
            "image" => "image",
            _ => {
                rest.push((key, value));
                continue;
            }
        };
        let terms = if field == "state" {
            states(reader, &value)?
        } else {
            vec![format!("{field} = {}", quote(&value))]
        };
        match alternatives.iter_mut().find(|(known, _)| *known == field) {
            Some((_, known)) => known.extend(terms),
            None => alternatives.push((field, terms)),
        }
    }
    if explicit.len() > 1 {
        reader.refuse("filter", "is given twice; join conditions with AND");
    }
    let short = alternatives.into_iter().filter(|(_, terms)| !terms.is_empty()).map(|(_, terms)| {
        if terms.len() == 1 { terms.concat() } else { format!("({})", terms.join(" OR ")) }
    });
    let short: Vec<String> = short.chain(labels).collect();
    let explicit = explicit.into_iter().next().filter(|filter| !filter.trim().is_empty());
    if let Some(filter) = join(reader, explicit, short) {
        rest.push(("filter".to_owned(), filter));
    }
    Ok(rest)
}

/// Joins the client's own filter and the short conditions. The own filter is checked by itself, so that an
/// error names the place in what the client wrote, and parentheses cannot be broken out of.
fn join(reader: &mut Reader, explicit: Option<String>, short: Vec<String>) -> Option<String> {
    let Some(explicit) = explicit else {
        return Some(short.join(" AND ")).filter(|filter| !filter.is_empty());
    };
    if let Err(error) = Filter::parse(&explicit) {
        reader.refuse("filter", error.to_string());
        return None;
    }
    if short.is_empty() {
        return Some(explicit);
    }
    Some(format!("({explicit}) AND {}", short.join(" AND ")))
}

fn states(reader: &mut Reader, value: &str) -> Result<Vec<String>, Problem> {
    let states = schema::pool()?
        .get_enum_by_name("berth.v1.JobState")
        .ok_or_else(|| Problem::Internal("the API has no berth.v1.JobState".to_owned()))?;
    let mut terms = Vec::new();
    for name in value.split(',') {
        match read_enum(&states, &name.trim().into()) {
            Ok(0) => reader.refuse("state", "must name a state"),
            Ok(number) => {
                let full = states.get_value(number).map(|state| state.name().to_owned()).unwrap_or_default();
                terms.push(format!("state = {}", full.strip_prefix("JOB_STATE_").unwrap_or(&full)));
            }
            Err(description) => reader.refuse("state", description),
        }
    }
    Ok(terms)
}

fn label(reader: &mut Reader, value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    match value.split_once('=') {
        Some((name, wanted)) if !name.is_empty() && name.chars().all(plain) => {
            Some(format!("label.{name} = {}", quote(wanted)))
        }
        Some(_) | None => {
            reader.refuse("label", "must be NAME=VALUE, for example label=team=ml");
            None
        }
    }
}

/// Writes a text so that the filter language reads it back.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(parameters: &[(&str, &str)]) -> Result<String, Problem> {
        let mut reader = Reader::lenient();
        let owned = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let rest = fold(&mut reader, owned)?;
        reader.finish()?;
        Ok(rest.into_iter().find(|(key, _)| key == "filter").map(|(_, value)| value).unwrap_or_default())
    }

    #[test]
    fn short_parameters_become_one_filter() {
        assert_eq!(folded(&[]), Ok(String::new()));
        assert_eq!(folded(&[("state", "running")]), Ok("state = RUNNING".to_owned()));
        assert_eq!(
            folded(&[
                ("state", "running"),
                ("label", "team=ml"),
                ("state", "JOB_STATE_FAILED"),
                ("name", "a\"b")
            ]),
            Ok("(state = RUNNING OR state = FAILED) AND display_name = \"a\\\"b\" AND label.team = \"ml\""
                .to_owned())
        );
        assert_eq!(
            folded(&[("filter", "priority > 1 OR attempt = 2"), ("state", "failed,aborted")]),
            Ok("(priority > 1 OR attempt = 2) AND (state = FAILED OR state = ABORTED)".to_owned())
        );
    }

    #[test]
    fn bad_conditions_name_the_parameter() {
        let refused = |parameters: &[(&str, &str)]| folded(parameters).expect_err("it is bad").to_string();
        assert_eq!(
            refused(&[("state", "runing")]),
            "state must not be \"runing\"; did you mean \"RUNNING\"?"
        );
        assert_eq!(refused(&[("label", "team")]), "label must be NAME=VALUE, for example label=team=ml");
        assert!(refused(&[("filter", "a) OR (b"), ("state", "failed")]).starts_with("filter: "));
        assert!(refused(&[("label", "a = 1 OR x=y")]).starts_with("label "));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_the_filter_reads_back(name in ".{0,30}", label in "[a-z./_-]{1,9}=.{0,20}") {
            let filter = folded(&[("name", &name), ("label", &label), ("filter", "priority < 3")]);
            prop_assert!(Filter::parse(&filter.expect("it is valid")).is_ok());
        }
    }
}
