//! Turns a message of the client into the process that it talks to: a new call, or an existing process.

use super::{
    Phase, Session,
    framing::Framing,
    protocol::{Attached, Event, Start, Started},
    telling,
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
        let admitted = match self.dispatcher.admit(&self.caller, start.call.into()) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.on(Event::Refused(refusal), cx),
        };
        let (control, spec) = (admitted.control(), &admitted.call().spec);
        let detach = start.on_disconnect.unwrap_or(spec.on_disconnect) == OnDisconnect::Detach;
        self.keep = detach && self.dispatcher.shelf.is_some();
        if self.keep || !matches!(self.framing, Framing::Lines) {
            admitted.be_plain();
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
        let told = (self.keep || self.telling.is_some()).then(|| (process.call().clone(), process.control().id));
        let mut key = None;
        match &self.dispatcher.shelf {
            Some(shelf) if self.keep => {
                let view = self.dispatcher.keep(shelf, process, &self.caller);
                key = view.kept().owner.key.clone();
                self.phase = Phase::Watching(view);
            }
            _ => self.phase = Phase::Running(process),
        }
        if let Some(telling) = &mut self.telling {
            telling.begin(Instant::now() + self.timing.ping_interval);
        }
        if let Some((call, id)) = told {
            let started = Started {
                id,
                call: call.spec.name.as_str(),
                generation: call.plugin.generation,
                kept: self.keep,
                key: key.as_deref(),
            };
            self.on(Event::Started(&started), cx);
        }
    }

    pub(super) fn attach(&mut self, attach: Attach, cx: &mut Context<'_>) {
        let Some(kept) = self.dispatcher.kept(&self.caller, &attach.id, attach.key.as_deref()) else {
            let refusal = Refusal::NoProcess(attach.id);
            self.dispatcher.metrics.refused(&refusal);
            return self.on(Event::Refused(refusal), cx);
        };
        self.control = Some(kept.control.clone());
        self.keep = true;
        self.phase = Phase::Watching(kept.view([attach.stdout, attach.stderr]));
        let running = kept.ending().is_none();
        if let Some(telling) = self.telling.as_mut().filter(|_| !running) {
            telling.leave_cancel_untold();
        }
        let attached = Attached {
            id: kept.id(),
            call: &kept.begun.call,
            params: &kept.begun.params,
            generation: kept.begun.generation,
            started: telling::moment(kept.begun.started),
            running,
            stdout: kept.range(Stream::Stdout),
            stderr: kept.range(Stream::Stderr),
        };
        self.on(Event::Attached(&attached), cx);
    }
}
