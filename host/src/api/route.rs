//! A route: where it is, what answers there, and what is said about that. The router and the document are made of the
//! same routes, so that neither can have what the other has not.

use super::{Api, operation::Operation};
use axum::{
    handler::Handler,
    http::{StatusCode, header},
    routing::{MethodFilter, MethodRouter, on},
};

#[derive(Clone)]
pub(super) struct Route {
    /// Behind the root, beginning with a slash.
    pub path: &'static str,
    pub methods: MethodRouter<Api>,
    /// In lower case, as the document has them.
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

    /// Everything that may be asked for here. Also answers what is asked before a page of another origin asks.
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
