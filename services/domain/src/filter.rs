//! The small filter language of lists and watches, after AIP-160:
//! `state = RUNNING AND (label.team = "ml" OR NOT executor_id = e1)`.
//!
//! Operators are `=`, `!=`, `<`, `<=`, `>`, `>=`; `AND` binds tighter than `OR`, `NOT` tightest.

use thiserror::Error;

use crate::job::{Job, JobState};
use crate::spec::JobSpec;

/// The longest filter accepted, in bytes.
pub const MAX_FILTER_BYTES: usize = 4_096;
/// The deepest nesting accepted.
const MAX_DEPTH: usize = 32;
const FIELDS: &str =
    "id, display_name, namespace, state, executor_id, image, priority, attempt, exit_code, label.NAME";

/// Says what is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} at character {at}")]
pub struct InvalidFilter {
    what: String,
    at: usize,
}

/// A condition on jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter(Option<Node>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Compare(Field, Operator, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Id,
    DisplayName,
    Namespace,
    State,
    ExecutorId,
    Image,
    Priority,
    Attempt,
    ExitCode,
    Label(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Filter {
    /// Reads a filter; an empty one matches every job.
    ///
    /// # Errors
    /// Says what is wrong and at which character, counted from 1.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        if text.len() > MAX_FILTER_BYTES {
            return Err(InvalidFilter {
                what: format!("the filter is longer than {MAX_FILTER_BYTES} bytes"),
                at: 1,
            });
        }
        let tokens = tokenize(text)?;
        if tokens.is_empty() {
            return Ok(Self(None));
        }
        let mut parser = Parser { tokens: &tokens, next: 0, end: text.chars().count() + 1 };
        let node = parser.or(0)?;
        match parser.tokens.get(parser.next) {
            None => Ok(Self(Some(node))),
            Some(extra) => Err(InvalidFilter {
                what: format!("expected AND, OR or the end, not {}", extra.show()),
                at: extra.at,
            }),
        }
    }

    /// Says whether a job meets the condition. Without its spec, conditions on spec fields do not hold.
    pub fn matches(&self, job: &Job, spec: Option<&JobSpec>) -> bool {
        self.0.as_ref().is_none_or(|node| holds(node, job, spec))
    }

    /// Says whether the condition needs the spec.
    pub fn needs_spec(&self) -> bool {
        fn needs(node: &Node) -> bool {
            match node {
                Node::And(a, b) | Node::Or(a, b) => needs(a) || needs(b),
                Node::Not(inner) => needs(inner),
                Node::Compare(field, ..) => matches!(field, Field::Image | Field::Label(_)),
            }
        }
        self.0.as_ref().is_some_and(needs)
    }

    /// Names the one job that the filter can match, where it is of the form `id = "..."`, alone or
    /// joined by AND.
    pub fn only_id(&self) -> Option<&str> {
        fn only(node: &Node) -> Option<&str> {
            match node {
                Node::And(a, b) => only(a).or_else(|| only(b)),
                Node::Compare(Field::Id, Operator::Equal, id) => Some(id),
                Node::Or(..) | Node::Not(_) | Node::Compare(..) => None,
            }
        }
        self.0.as_ref().and_then(only)
    }
}

fn holds(node: &Node, job: &Job, spec: Option<&JobSpec>) -> bool {
    match node {
        Node::And(a, b) => holds(a, job, spec) && holds(b, job, spec),
        Node::Or(a, b) => holds(a, job, spec) || holds(b, job, spec),
        Node::Not(inner) => !holds(inner, job, spec),
        Node::Compare(field, operator, wanted) => compare(field, *operator, wanted, job, spec),
    }
}

fn compare(field: &Field, operator: Operator, wanted: &str, job: &Job, spec: Option<&JobSpec>) -> bool {
    let text = |found: &str| operator.holds(found.cmp(wanted));
    let number = |found: i64| wanted.parse::<i64>().is_ok_and(|wanted| operator.holds(found.cmp(&wanted)));
    match field {
        Field::Id => text(job.id.as_str()),
        Field::DisplayName => text(&job.display_name),
        Field::Namespace => text(job.namespace.as_str()),
        Field::State => text(job.state.name()),
        Field::ExecutorId => text(job.executor.as_ref().map_or("", |id| id.as_str())),
        Field::Image => spec.is_some_and(|spec| text(&spec.image)),
        Field::Priority => number(i64::from(job.priority)),
        Field::Attempt => number(i64::from(job.attempt)),
        Field::ExitCode => job.exit_code.is_some_and(|code| number(i64::from(code))),
        Field::Label(name) => spec.is_some_and(|spec| match spec.labels.get(name) {
            Some(value) => text(value),
            // A label that is not there differs from every value.
            None => operator == Operator::NotEqual,
        }),
    }
}

impl Operator {
    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    Quoted(String),
    Operator(Operator),
    Open,
    Close,
}

#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    at: usize,
}

impl Token {
    fn show(&self) -> String {
        match &self.kind {
            Kind::Word(word) => format!("{:?}", word.chars().take(40).collect::<String>()),
            Kind::Quoted(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
            Kind::Operator(_) => "an operator".to_owned(),
            Kind::Open => "\"(\"".to_owned(),
            Kind::Close => "\")\"".to_owned(),
        }
    }
}

fn tokenize(text: &str) -> Result<Vec<Token>, InvalidFilter> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        let at = i + 1;
        if c.is_whitespace() {
            i += 1;
            continue;
        }
        let (kind, used) = match c {
            '(' => (Kind::Open, 1),
            ')' => (Kind::Close, 1),
            '=' | '!' | '<' | '>' => operator(c, chars.get(i + 1).copied(), at)?,
            '"' => quoted(&chars[i..], at)?,
            _ => {
                let word: String = chars[i..]
                    .iter()
                    .take_while(|c| {
                        !c.is_whitespace() && !matches!(c, '(' | ')' | '=' | '!' | '<' | '>' | '"')
                    })
                    .collect();
                let used = word.chars().count();
                (Kind::Word(word), used)
            }
        };
        tokens.push(Token { kind, at });
        i += used;
    }
    Ok(tokens)
}

fn operator(first: char, second: Option<char>, at: usize) -> Result<(Kind, usize), InvalidFilter> {
    let (operator, used) = match (first, second) {
        ('=', _) => (Operator::Equal, 1),
        ('!', Some('=')) => (Operator::NotEqual, 2),
        ('<', Some('=')) => (Operator::LessOrEqual, 2),
        ('<', _) => (Operator::Less, 1),
        ('>', Some('=')) => (Operator::GreaterOrEqual, 2),
        ('>', _) => (Operator::Greater, 1),
        _ => {
            return Err(InvalidFilter { what: "expected an operator: =, !=, <, <=, > or >=".to_owned(), at });
        }
    };
    Ok((Kind::Operator(operator), used))
}

fn quoted(chars: &[char], at: usize) -> Result<(Kind, usize), InvalidFilter> {
    let mut text = String::new();
    let mut i = 1;
    while let Some(&c) = chars.get(i) {
        match (c, chars.get(i + 1)) {
            ('"', _) => return Ok((Kind::Quoted(text), i + 1)),
            ('\\', Some(&escaped)) => {
                text.push(escaped);
                i += 2;
            }
            _ => {
                text.push(c);
                i += 1;
            }
        }
    }
    Err(InvalidFilter { what: "the text has no closing quote".to_owned(), at })
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    end: usize,
}

impl Parser<'_> {
    fn word(&self, wanted: &str) -> bool {
        matches!(self.tokens.get(self.next), Some(Token { kind: Kind::Word(word), .. }) if word == wanted)
    }

    fn fail<T>(&self, expected: &str) -> Result<T, InvalidFilter> {
        let (found, at) = match self.tokens.get(self.next) {
            Some(token) => (token.show(), token.at),
            None => ("the end".to_owned(), self.end),
        };
        Err(InvalidFilter { what: format!("expected {expected}, not {found}"), at })
    }

    fn or(&mut self, depth: usize) -> Result<Node, InvalidFilter> {
        let mut left = self.and(depth)?;
        while self.word("OR") {
            self.next += 1;
            left = Node::Or(Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<Node, InvalidFilter> {
        let mut left = self.not(depth)?;
        while self.word("AND") {
            self.next += 1;
            left = Node::And(Box::new(left), Box::new(self.not(depth)?));
        }
        Ok(left)
    }

    fn not(&mut self, depth: usize) -> Result<Node, InvalidFilter> {
        if depth > MAX_DEPTH {
            return self.fail("fewer parentheses and NOTs");
        }
        if self.word("NOT") {
            self.next += 1;
            return Ok(Node::Not(Box::new(self.not(depth + 1)?)));
        }
        if matches!(self.tokens.get(self.next), Some(Token { kind: Kind::Open, .. })) {
            self.next += 1;
            let inner = self.or(depth + 1)?;
            if !matches!(self.tokens.get(self.next), Some(Token { kind: Kind::Close, .. })) {
                return self.fail("\")\"");
            }
            self.next += 1;
            return Ok(inner);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Node, InvalidFilter> {
        let field = match self.tokens.get(self.next) {
            Some(Token { kind: Kind::Word(word), at }) => field(word).ok_or_else(|| InvalidFilter {
                what: format!("{word:?} is no field; fields are {FIELDS}"),
                at: *at,
            })?,
            _ => return self.fail("a field"),
        };
        self.next += 1;
        let Some(Token { kind: Kind::Operator(operator), .. }) = self.tokens.get(self.next) else {
            return self.fail("an operator");
        };
        self.next += 1;
        let Some(Token { kind: Kind::Word(value) | Kind::Quoted(value), at }) = self.tokens.get(self.next)
        else {
            return self.fail("a value");
        };
        self.next += 1;
        Ok(Node::Compare(field.clone(), *operator, checked(&field, value, *at)?))
    }
}

fn field(word: &str) -> Option<Field> {
    let field = match word {
        "id" => Field::Id,
        "display_name" | "displayName" | "name" => Field::DisplayName,
        "namespace" => Field::Namespace,
        "state" => Field::State,
        "executor_id" | "executorId" => Field::ExecutorId,
        "image" => Field::Image,
        "priority" => Field::Priority,
        "attempt" => Field::Attempt,
        "exit_code" | "exitCode" => Field::ExitCode,
        _ => Field::Label(word.strip_prefix("label.").or_else(|| word.strip_prefix("labels."))?.to_owned()),
    };
    Some(field)
}

/// Brings a value to the form the field is compared in, or says what it should be.
fn checked(field: &Field, value: &str, at: usize) -> Result<String, InvalidFilter> {
    match field {
        Field::State => {
            let upper = value.to_ascii_uppercase();
            let name = upper.strip_prefix("JOB_STATE_").unwrap_or(&upper).to_owned();
            let known = crate::job::JOB_STATES.map(JobState::name);
            if known.contains(&name.as_str()) {
                Ok(name)
            } else {
                Err(InvalidFilter {
                    what: format!("{value:?} is no state; states are {}", known.join(", ")),
                    at,
                })
            }
        }
        Field::Priority | Field::Attempt | Field::ExitCode => match value.parse::<i64>() {
            Ok(_) => Ok(value.to_owned()),
            Err(_) => Err(InvalidFilter { what: format!("{value:?} is not a whole number"), at }),
        },
        Field::Id
        | Field::DisplayName
        | Field::Namespace
        | Field::ExecutorId
        | Field::Image
        | Field::Label(_) => Ok(value.to_owned()),
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
