//! The needs of an operator: monitoring, TLS, proxies, a service manager, and a new program in place of the old one.

mod containers;
mod exposition;
mod image;
pub mod metrics;
mod proxy;
mod service;
mod takeover;
mod tls;
mod traces;
