//! What the operator of a server needs: to see how it is, TLS, proxies, a service manager, a new program in the place of
//! the old one.

mod containers;
mod exposition;
mod metrics;
mod proxy;
mod service;
mod takeover;
mod tls;
mod traces;
