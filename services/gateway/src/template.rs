//! Path templates such as `/v1/jobs/{id}:abort`, and the paths they match. axum's own router cannot hold a
//! verb after a variable.

use berth_api::status::Problem;

/// A path as the client sent it, cut at slashes.
pub(crate) struct Path<'a> {
    segments: Vec<&'a str>,
}

impl<'a> Path<'a> {
    /// Cuts an absolute path.
    pub(crate) fn new(path: &'a str) -> Self {
        Self { segments: path.strip_prefix('/').unwrap_or(path).split('/').collect() }
    }
}

/// A path template of a `google.api.http` annotation: literals and variables of one segment each, and a verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    segments: Vec<Segment>,
    verb: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Variable(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Refuses what it cannot match: wildcards, and variables that span segments.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let refuse = || Problem::Internal(format!("the path template {text:?} is not served"));
        let path = text.strip_prefix('/').ok_or_else(refuse)?;
        let last = path.rfind('/').map_or(0, |slash| slash + 1);
        let (path, verb) = match path[last..].rfind(':') {
            Some(colon) => (&path[..last + colon], Some(path[last + colon + 1..].to_owned())),
            None => (path, None),
        };
        let segments = path.split('/').map(|segment| match segment.strip_prefix('{') {
            Some(rest) => match rest.strip_suffix('}') {
                Some(name) if !name.is_empty() && !name.contains(['=', '*', '{', '}']) => {
                    Ok(Segment::Variable(name.to_owned()))
                }
                Some(_) | None => Err(refuse()),
            },
            None if segment.is_empty() || segment.contains(['*', '{', '}']) => Err(refuse()),
            None => Ok(Segment::Literal(segment.to_owned())),
        });
        Ok(Self { text: text.to_owned(), segments: segments.collect::<Result<_, _>>()?, verb })
    }

    /// Shows the template as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Ranks templates that match the same path: a verb first, then the most literals.
    pub(crate) fn rank(&self) -> (bool, usize) {
        let literals = self.segments.iter().filter(|segment| matches!(segment, Segment::Literal(_))).count();
        (self.verb.is_some(), literals)
    }

    /// Says whether the template ends in a variable without a verb, and so takes a misspelt verb for an id.
    pub(crate) fn ends_open(&self) -> bool {
        self.verb.is_none() && matches!(self.segments.last(), Some(Segment::Variable(_)))
    }

    /// Matches a path; gives the variables' decoded values.
    pub(crate) fn matches(&self, path: &Path<'_>) -> Option<Vec<(&str, String)>> {
        if path.segments.len() != self.segments.len() {
            return None;
        }
        let mut variables = Vec::new();
        for (index, (segment, sent)) in self.segments.iter().zip(&path.segments).enumerate() {
            let mut sent = *sent;
            // A colon written as %3A belongs to the id, so the verb is cut off before decoding.
            if let Some(verb) = self.verb.as_ref().filter(|_| index + 1 == self.segments.len()) {
                sent = sent.strip_suffix(verb.as_str())?.strip_suffix(':')?;
            }
            let sent = percent_decode(sent)?;
            match segment {
                Segment::Literal(literal) if *literal == sent => {}
                Segment::Literal(_) => return None,
                Segment::Variable(_) if sent.is_empty() => return None,
                Segment::Variable(name) => variables.push((name.as_str(), sent)),
            }
        }
        Some(variables)
    }

    /// Shows the path that the client may have meant: its own ids in this template.
    pub(crate) fn fill(&self, path: &Path<'_>) -> Option<String> {
        if path.segments.len() != self.segments.len() {
            return None;
        }
        let mut filled = String::new();
        for (segment, sent) in self.segments.iter().zip(&path.segments) {
            filled.push('/');
            filled.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::Variable(_) => sent.split(':').next().unwrap_or(sent),
            });
        }
        if let Some(verb) = &self.verb {
            filled.push(':');
            filled.push_str(verb);
        }
        Some(filled)
    }
}

/// Decodes `%41`; `None` for a broken escape or what is not UTF-8 then.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(template: &str, path: &str) -> Option<Vec<(String, String)>> {
        let template = Template::parse(template).expect("it is served");
        let found = template.matches(&Path::new(path))?;
        Some(found.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    #[test]
    fn a_verb_is_split_off_at_the_last_colon() {
        let id = |id: &str| Some(vec![("id".to_owned(), id.to_owned())]);
        assert_eq!(matched("/v1/jobs/{id}:abort", "/v1/jobs/j1:abort"), id("j1"));
        assert_eq!(matched("/v1/jobs/{id}:abort", "/v1/jobs/a:b:abort"), id("a:b"));
        assert_eq!(matched("/v1/jobs/{id}:abort", "/v1/jobs/j1%3Aabort"), None);
        assert_eq!(matched("/v1/jobs/{id}", "/v1/jobs/j1%3Aabort"), id("j1:abort"));
        assert_eq!(matched("/v1/jobs/{id}/logs", "/v1/jobs/a%2Fb/logs"), id("a/b"));
        assert_eq!(matched("/v1/jobs:watch", "/v1/jobs:watch"), Some(Vec::new()));
        for path in ["/v1/jobs/", "/v1/jobs/:abort", "/v1/jobs/%ff", "/v1/jobs/%4", "/v1/jobs/a/b", ""] {
            assert_eq!(matched("/v1/jobs/{id}", path).filter(|_| path != "/v1/jobs/:abort"), None, "{path}");
            assert_eq!(matched("/v1/jobs/{id}:abort", path), None, "{path}");
        }
    }

    #[test]
    fn templates_that_cannot_be_matched_are_refused() {
        for bad in ["jobs", "/v1/{name=jobs/*}", "/v1/**", "/v1/{}", "//"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
