//! A route: its path, its handlers, and their descriptions. Router and document are made from the same routes, so that
//! neither can lack what the other has.

use super::{Api, operation::Operation};
use axum::{
    handler::Handler,
    http::{StatusCode, header},
    routing::{MethodFilter, MethodRouter, on},
};

#[derive(Clone)]
pub(super) struct Route {
    /// The path below the root, beginning with a slash.
    pub path: &'static str,
    pub methods: MethodRouter<Api>,
    /// The methods in lower case, as in the document.
    pub operations: Vec<(&'static str, Operation)>,
}

impl Route {
    pub fn at(path: &'static str) -> Self {
        Self { path, methods: MethodRouter::new(), operations: Vec::new() }
    }

    pub fn get<T: 'static>(self, handler: impl Handler<T, Api>, operation: Operation) -> Self {
        self.on("get", MethodFilter::GET, handler, operation)
    }

    pub fn post<T: 'static>(self, handler: impl Handler<T, Api>, operation: Operation) -> Self {
        self.on("post", MethodFilter::POST, handler, operation.changing())
    }

    pub fn delete<T: 'static>(self, handler: impl Handler<T, Api>, operation: Operation) -> Self {
        self.on("delete", MethodFilter::DELETE, handler, operation.changing())
    }

    fn on<T: 'static>(
        mut self,
        name: &'static str,
        filter: MethodFilter,
        handler: impl Handler<T, Api>,
        operation: Operation,
    ) -> Self {
        self.operations.push((name, operation));
        Self { methods: self.methods.on(filter, handler), ..self }
    }

    /// Returns the router of all methods, including the answer to preflight requests.
    pub fn methods(&self) -> MethodRouter<Api> {
        let allow = self.allow();
        let options = move || async move { (StatusCode::NO_CONTENT, [(header::ALLOW, allow)]) };
        self.methods.clone().merge(on(MethodFilter::OPTIONS, options))
    }

    fn allow(&self) -> String {
        let names = self.operations.iter().map(|(name, _)| match *name {
            "get" => "GET,HEAD".to_owned(),
            name => name.to_ascii_uppercase(),
        });
        names.chain(["OPTIONS".to_owned()]).collect::<Vec<_>>().join(",")
    }
}
