//! The listening sockets that a start already has: from a service manager, or from the previous server.

use super::preflight::{Given, overlap};
use anyhow::bail;
use distillery_config::Config;
use distillery_http::server::{
    service::Inherited,
    takeover::{Listeners, Managed},
};
use std::net::{SocketAddr, TcpListener};

/// Listening sockets; a missing one is opened at its configured address.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub clients: Option<TcpListener>,
    pub operator: Option<TcpListener>,
    /// The sockets from a service manager. Their addresses are the manager's choice, independent of the configuration.
    pub managed: Managed,
}

impl From<Inherited> for Sockets {
    fn from(Inherited { clients, operator }: Inherited) -> Self {
        let managed = Managed { clients: clients.is_some(), operator: operator.is_some() };
        Self { clients, operator, managed }
    }
}

impl Sockets {
    /// Keeps the previous server's sockets that match `config`, and logs the others.
    pub fn taken_over(config: &Config, Listeners { clients, operator, managed }: Listeners) -> anyhow::Result<Self> {
        let clients = kept("http.listen", clients, managed.clients, Some(config.http.listen))?;
        let operator = match operator {
            Some(listener) => kept("ops.listen", listener, managed.operator, config.ops.listen)?,
            None => None,
        };
        Ok(Self { clients, operator, managed })
    }

    pub fn given(&self) -> Given {
        Given { clients: self.clients.is_some(), operator: self.operator.is_some() }
    }
}

/// Returns the socket if it is from a service manager or listens at `wanted`.
fn kept(
    key: &'static str,
    listener: TcpListener,
    managed: bool,
    wanted: Option<SocketAddr>,
) -> anyhow::Result<Option<TcpListener>> {
    let address = listener.local_addr()?;
    match wanted {
        Some(wanted) if managed && !fits(address, wanted) => {
            tracing::info!(key, %address, configured = %wanted, "keeping the address of the inherited socket");
        }
        _ if managed => {}
        Some(wanted) if fits(address, wanted) => {}
        Some(wanted) if overlap(address, wanted) => bail!(
            "{key} has changed from {address} to {wanted}: the server that runs keeps that port until it ends; restart \
             instead of taking over"
        ),
        Some(wanted) => {
            tracing::warn!(key, from = %address, to = %wanted, "address has changed; closing the old one");
            return Ok(None);
        }
        None => {
            tracing::warn!(key, from = %address, "address is off; closing it");
            return Ok(None);
        }
    }
    Ok(Some(listener))
}

/// Returns whether a socket at `address` satisfies `wanted`. Port 0 is any port.
fn fits(address: SocketAddr, wanted: SocketAddr) -> bool {
    address.ip() == wanted.ip() && (wanted.port() == 0 || address.port() == wanted.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn taken_over(config: &Config, managed: Managed) -> anyhow::Result<[Option<SocketAddr>; 2]> {
        let listeners = Listeners { clients: listener().0, operator: Some(listener().0), managed };
        let sockets = Sockets::taken_over(config, listeners)?;
        Ok([sockets.clients, sockets.operator].map(|it| it.map(|it| it.local_addr().unwrap())))
    }

    #[test]
    fn socket_with_the_configured_address_is_kept() {
        let mut config = Config::default();
        let any = "127.0.0.1:0".parse().unwrap();
        config.http.listen = any;
        config.ops.listen = Some(any);
        assert!(matches!(taken_over(&config, Managed::default()), Ok([Some(_), Some(_)])));
        config.http.listen = "127.0.0.1:1".parse().unwrap();
        config.ops.listen = None;
        assert!(matches!(taken_over(&config, Managed::default()), Ok([None, None])));
        let managed = Managed { clients: true, operator: true };
        assert!(matches!(taken_over(&config, managed), Ok([Some(_), Some(_)])));
    }

    #[test]
    fn wider_address_on_the_same_port_needs_a_restart() {
        let (listener, address) = listener();
        let wider = SocketAddr::from(([0, 0, 0, 0], address.port()));
        let error = kept("http.listen", listener, false, Some(wider)).unwrap_err().to_string();
        assert!(error.contains("restart instead"), "{error}");
    }
}
