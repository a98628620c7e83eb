//! The route table, read from the `google.api.http` annotations of every method.

use berth_api::status::Problem;
use http::Method;
use prost_reflect::{DynamicMessage, MethodDescriptor, Value};

use crate::json::nearest;
use crate::schema;
use crate::template::{Path, Template};

/// What of a request its HTTP body holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// Nothing: all fields stand in path and query.
    None,
    /// Every field that the path does not hold.
    Whole,
    /// This field alone.
    Field(String),
}

/// One HTTP method and path, and the RPC behind it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The HTTP method.
    pub verb: Method,
    /// The path.
    pub template: Template,
    /// What the body holds.
    pub body: BodyRule,
    /// The field of the answer that is the HTTP body; `None` is the whole answer.
    pub response_body: Option<String>,
    /// The RPC.
    pub method: MethodDescriptor,
}

/// Every route.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    routes: Vec<Route>,
}

/// What a path and method lead to.
pub(crate) enum Found<'a> {
    /// A route, with the path's variables.
    Route(&'a Route, Vec<(String, String)>),
    /// The path exists with these methods only.
    OtherMethods(Vec<&'static str>),
    /// No such path; a near one, if there is.
    Nothing(Option<String>),
}

impl Table {
    /// Reads all annotations.
    ///
    /// # Errors
    /// Fails when an annotation cannot be served; repeating cannot help.
    pub(crate) fn load() -> Result<Self, Problem> {
        let pool = schema::pool()?;
        let option = pool
            .get_extension_by_name("google.api.http")
            .ok_or_else(|| Problem::Internal("the API has no google.api.http".to_owned()))?;
        let mut routes = Vec::new();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let options = method.options();
            if !options.has_extension(&option) {
                continue;
            }
            let rule = options.get_extension(&option);
            let Some(rule) = rule.as_message() else {
                continue;
            };
            routes.push(route(rule, &method)?);
            let more = rule.get_field_by_name("additional_bindings");
            for binding in more.as_deref().and_then(Value::as_list).unwrap_or_default() {
                if let Some(binding) = binding.as_message() {
                    routes.push(route(binding, &method)?);
                }
            }
        }
        Ok(Self { routes })
    }

    /// Gives every route.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Finds what answers a request.
    pub(crate) fn find(&self, verb: &Method, raw_path: &str) -> Found<'_> {
        let path = Path::new(raw_path);
        let matches: Vec<_> =
            self.routes.iter().filter_map(|route| Some((route, route.template.matches(&path)?))).collect();
        let Some(best) = matches.iter().map(|(route, _)| route.template.rank()).max() else {
            return Found::Nothing(self.near(raw_path, &path));
        };
        let best: Vec<_> = matches.into_iter().filter(|(route, _)| route.template.rank() == best).collect();
        // HEAD is GET without the body; hyper leaves the body out.
        let wanted = if verb == Method::HEAD { &Method::GET } else { verb };
        let found = best.iter().find(|(route, _)| route.verb == *wanted);
        if let Some((route, variables)) = found {
            let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            return Found::Route(route, owned.collect());
        }
        let last = raw_path.rsplit('/').next().unwrap_or_default();
        if last.contains(':') && best.iter().all(|(route, _)| route.template.ends_open()) {
            // An id with a colon and the wrong method: far more likely a misspelt verb.
            return Found::Nothing(self.near(raw_path, &path));
        }
        Found::OtherMethods(allowed(best.iter().map(|(route, _)| &route.verb)))
    }

    fn near(&self, raw_path: &str, path: &Path<'_>) -> Option<String> {
        let filled: Vec<String> = self.routes.iter().filter_map(|route| route.template.fill(path)).collect();
        nearest(raw_path, filled.iter().map(String::as_str)).map(str::to_owned)
    }
}

/// Lists methods for `Allow`, each once.
fn allowed<'a>(verbs: impl Iterator<Item = &'a Method>) -> Vec<&'static str> {
    let verbs: Vec<&Method> = verbs.collect();
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
        .into_iter()
        .filter(|name| {
            let name = if *name == "HEAD" { "GET" } else { name };
            verbs.iter().any(|verb| verb.as_str() == name)
        })
        .collect()
}

fn route(rule: &DynamicMessage, method: &MethodDescriptor) -> Result<Route, Problem> {
    let text = |name: &str| {
        let value = rule.get_field_by_name(name);
        value.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let patterns = [
        (Method::GET, "get"),
        (Method::PUT, "put"),
        (Method::POST, "post"),
        (Method::DELETE, "delete"),
        (Method::PATCH, "patch"),
    ];
    let (verb, path) = patterns
        .into_iter()
        .map(|(verb, name)| (verb, text(name)))
        .find(|(_, path)| !path.is_empty())
        .ok_or_else(|| Problem::Internal(format!("{} has a route without a path", method.full_name())))?;
    let body = match text("body").as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::Whole,
        field => BodyRule::Field(field.to_owned()),
    };
    let response_body = Some(text("response_body")).filter(|field| !field.is_empty());
    Ok(Route { verb, template: Template::parse(&path)?, body, response_body, method: method.clone() })
}
