//! Turns a message of the client into the process that it talks to: a new call, or an existing process.

use super::{
    Phase, Session,
    framing::Framing,
    notifications,
    protocol::{Attached, Event, Start, Started},
};
use crate::wire::distillery1::Attach;
use distillery_core::{
    call::{OnDisconnect, Refusal},
    stream::Stream,
};
use distillery_process::{Process, dispatch::Admitted};
use std::{task::Context, time::Instant};

impl Session {
    pub(super) fn start(&mut self, start: Start, cx: &mut Context<'_>) {
        let admitted = match self.dispatcher.admit(&self.caller, start.call) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.on(Event::Refused(refusal), cx),
        };
        let (control, spec) = (admitted.control(), &admitted.call().spec);
        let detach = start.on_disconnect.unwrap_or(spec.on_disconnect) == OnDisconnect::Detach;
        self.keep = detach && self.dispatcher.registry.is_some();
        if self.keep || !matches!(self.framing, Framing::Lines) {
            admitted.raw_output();
        }
        if !start.input.is_empty() {
            control.input.push(&start.input, Instant::now(), cx);
        }
        self.control = Some(control.clone());
        match admitted {
            Admitted::Now(process) => self.begin(process, cx),
            Admitted::Later(queued) => self.phase = Phase::Queued(queued),
        }
    }

    /// Starts to serve a process that has just begun.
    pub(super) fn begin(&mut self, process: Process, cx: &mut Context<'_>) {
        let told = (self.keep || self.protocol.names_process()).then(|| (process.call().clone(), process.control().id));
        let mut key = None;
        match &self.dispatcher.registry {
            Some(registry) if self.keep => {
                let view = self.dispatcher.keep(registry, process, &self.caller);
                key = view.detached().owner.key.clone();
                self.phase = Phase::Watching(view);
            }
            _ => self.phase = Phase::Running(process),
        }
        if let Some(notifications) = &mut self.notifications {
            notifications.begin(Instant::now() + self.timing.ping_interval);
        }
        if let Some((call, id)) = told {
            let started = Started {
                id,
                call: call.spec.name.as_str(),
                generation: call.plugin.generation,
                detached: self.keep,
                key: key.as_deref(),
            };
            self.on(Event::Started(&started), cx);
        }
    }

    pub(super) fn attach(&mut self, attach: Attach, cx: &mut Context<'_>) {
        let Some(detached) = self.dispatcher.detached(&self.caller, &attach.id, attach.key.as_deref()) else {
            let refusal = Refusal::NoProcess(attach.id);
            self.dispatcher.metrics.refused(&refusal);
            return self.on(Event::Refused(refusal), cx);
        };
        self.control = Some(detached.control.clone());
        self.keep = true;
        self.phase = Phase::Watching(detached.view([attach.stdout, attach.stderr]));
        let running = detached.ending().is_none();
        if let Some(notifications) = self.notifications.as_mut().filter(|_| !running) {
            notifications.leave_cancel_untold();
        }
        let attached = Attached {
            id: detached.id(),
            call: &detached.begun.call,
            params: &detached.begun.params,
            generation: detached.begun.generation,
            started: notifications::moment(detached.begun.started),
            running,
            stdout: detached.range(Stream::Stdout),
            stderr: detached.range(Stream::Stderr),
        };
        self.on(Event::Attached(&attached), cx);
    }
}
