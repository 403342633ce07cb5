//! The way into serving: a fresh start, or a takeover from a running server. Holds what the outside already knows of this
//! server: its sockets, its place in `data`, its health and the service manager.

use super::super::sockets::Sockets;
use anyhow::{Context, bail};
use distillery_config::Config;
use distillery_http::{
    ops::Ops,
    server::{
        local::Local,
        service::{Inherited, Manager},
        takeover::{self, Managed, Predecessor},
    },
};
use distillery_observe::health::{Health, Stage};
use std::{net::TcpListener, sync::Arc};

pub(super) struct Entry {
    pub sockets: Sockets,
    /// The operator's socket in `data`. `None` until the predecessor has left it.
    local: Option<Local>,
    /// The server that this one takes over from.
    pub predecessor: Option<Predecessor>,
    /// Answers to the operator's probes.
    pub ops: Option<Ops>,
    pub health: Arc<Health>,
    pub manager: Arc<Manager>,
}

impl Entry {
    pub fn make(config: &Config, inherited: Inherited, takeover: bool) -> anyhow::Result<Self> {
        let health = Arc::<Health>::default();
        let manager = Arc::new(Manager::new(&config.service));
        let (sockets, local, predecessor) = if takeover {
            let (asked, listeners) = Predecessor::ask(&config.data)?;
            (Sockets::taken_over(config, listeners)?, None, Some(asked))
        } else {
            (Sockets::from(inherited), Some(Local::bind(&config.data)?), None)
        };
        Ok(Self { sockets, local, predecessor, ops: None, health, manager })
    }

    /// Returns whether this server takes over from another one.
    pub fn is_takeover(&self) -> bool {
        self.predecessor.is_some()
    }

    pub fn managed(&self) -> Managed {
        self.sockets.managed
    }

    /// Answers the operator before anything is loaded. A socket on which another server still answers is left to that
    /// server until this one serves.
    pub fn answer_operator_early(&mut self, config: &Config) -> anyhow::Result<()> {
        let is_free = self.sockets.operator.is_none() || !self.is_takeover();
        if is_free && (config.ops.listen.is_some() || self.sockets.operator.is_some()) {
            let listener = self.sockets.operator.take();
            self.ops = Some(self.start_ops(config, listener)?);
        }
        Ok(())
    }

    /// Answers the operator on the socket of the predecessor.
    pub fn answer_operator_late(&mut self, config: &Config) -> anyhow::Result<()> {
        if let Some(operator) = self.sockets.operator.take() {
            // Calls are accepted during a takeover by one server or the other, so a readiness probe gets the answer for
            // both.
            self.health.enter(Stage::Serving);
            self.ops = Some(self.start_ops(config, Some(operator))?);
        }
        Ok(())
    }

    /// Starts to answer the operator, on an inherited socket or at `ops.listen`.
    fn start_ops(&self, config: &Config, listener: Option<TcpListener>) -> anyhow::Result<Ops> {
        let listener = match (listener, config.ops.listen) {
            (Some(listener), _) => listener,
            (None, Some(address)) => Ops::bind(address)?,
            (None, None) => bail!("there is no address to answer the operator on: set ops.listen"),
        };
        Ops::start(listener, config, self.health.clone()).context("cannot answer the operator")
    }

    /// Returns the operator's socket in `data`, from the predecessor if there is one.
    pub fn take_local(&mut self, config: &Config) -> anyhow::Result<Arc<Local>> {
        let local = match (self.local.take(), &mut self.predecessor) {
            (None, Some(predecessor)) => predecessor.take(&config.data)?,
            (Some(local), _) => local,
            (None, None) => bail!("the operator's socket was taken already"),
        };
        Ok(Arc::new(local))
    }

    /// Returns the listening sockets for a later server that takes over.
    pub fn listeners(&mut self, clients: TcpListener) -> takeover::Listeners {
        let managed = self.managed();
        takeover::Listeners { clients, operator: self.ops.as_mut().and_then(Ops::listener), managed }
    }
}
