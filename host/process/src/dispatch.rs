//! Turns a call message into a process: looks up the call, then checks permission, parameters and free slots.
//!
//! Every protocol starts calls here, and here only.

use crate::{
    Deadlines, Process,
    admission::{Admission, Asked, Permit, Ticket, Wanted},
    compute::ComputeThreads,
    detached::{Detached, Reader, registry::Registry},
    history::{self, History, Seen, Starter},
};
use distillery_core::{
    auth::{Caller, Permission, may, may_see},
    call::{Outcome, Refusal},
    control::Control,
};
use distillery_observe::{
    metrics::{CallMetrics, Metrics, Usage},
    traces::{Timed, Tracer},
};
use distillery_plugin::{Call, Catalog, GuestArguments, arguments::Arguments, manifest::Stderr};
use distillery_runtime::{Invocation, StderrTo};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

/// A request to run a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name of the call.
    pub call: String,
    pub params: Arguments,
}

pub struct Dispatcher {
    pub catalog: Arc<Catalog>,
    pub admission: Admission,
    pub compute: Arc<ComputeThreads>,
    /// Default grace of a cancelled process, unless its plugin sets one.
    pub grace: Duration,
    /// Time that a fresh instance has to clean up after a process that was forced to end.
    pub cleanup_time: Duration,
    /// `None` if no history is kept.
    pub history: Option<Arc<History>>,
    /// `None` if processes cannot outlive their connection.
    pub registry: Option<Arc<Registry>>,
    pub metrics: Arc<Metrics>,
    /// `None` if tracing is disabled.
    pub tracer: Option<Arc<Tracer>>,
}

/// A call that is allowed to run.
pub enum Admitted {
    Now(Process),
    Later(Queued),
}

/// A call that waits for a slot.
pub struct Queued {
    call: Arc<Call>,
    order: Option<Order>,
    control: Arc<Control>,
    turn: Ticket,
    asked: Instant,
    metrics: Arc<Metrics>,
    wait: Option<Box<Timed>>,
    /// The end of the longest wait.
    pub until: Instant,
}

/// Everything that a process is made from, except its slot.
struct Order {
    call: Arc<Call>,
    invocation: Invocation,
    /// The parameters that the client gave, with defaults.
    params: Vec<String>,
    control: Arc<Control>,
    compute: Arc<ComputeThreads>,
    deadlines: Deadlines,
    starter: Starter,
    history: Option<Arc<History>>,
    counted: Arc<CallMetrics>,
}

impl Dispatcher {
    /// Starts the call of `request`, or queues it until there is a slot.
    pub fn admit(&self, caller: &Caller, request: Request) -> Result<Admitted, Refusal> {
        self.try_admit(caller, request).inspect_err(|refusal| self.metrics.refused(refusal))
    }

    fn try_admit(&self, caller: &Caller, request: Request) -> Result<Admitted, Refusal> {
        let order = self.order(caller, request)?;
        let plugin = &order.call.plugin;
        let wanted = Wanted {
            caller: caller.who(),
            plugin: plugin.name.as_str().into(),
            most_of_plugin: plugin.limits.processes,
        };
        match self.admission.ask(wanted) {
            Asked::Admitted(permit) => order.start(permit).map(Admitted::Now),
            Asked::Wait(turn) => {
                let asked = Instant::now();
                let until = asked + self.admission.queue_time();
                let (call, control, metrics) = (order.call.clone(), order.control.clone(), self.metrics.clone());
                let wait = self.traced("queue", caller, SystemTime::now());
                let wait = wait.map(|wait| Box::new(wait.with("distillery.call", call.spec.name.as_str())));
                Ok(Admitted::Later(Queued { call, order: Some(order), control, turn, asked, metrics, wait, until }))
            }
            Asked::Full(full) => Err(Refusal::Full(full)),
        }
    }

    /// Begins a span for a request of `caller`. `None` if the request is not traced.
    fn traced(&self, name: &'static str, caller: &Caller, from: SystemTime) -> Option<Timed> {
        Some(self.tracer.as_ref()?.below(name, caller.trace?, from))
    }

    fn order(&self, caller: &Caller, request: Request) -> Result<Order, Refusal> {
        let Request { call: name, params } = request;
        let Examined { call, params, arguments } = examine(&self.catalog, caller, &name, params)?;
        let plugin = &call.plugin;
        let control = Arc::new(Control::new(&plugin.limits));
        let own = [
            ("DISTILLERY_PROCESS".to_owned(), control.id.to_string()),
            ("DISTILLERY_CALL".to_owned(), name),
            ("DISTILLERY_USER".to_owned(), caller.user.clone()),
        ];
        let constants = plugin.manifest.env.iter().map(|(name, value)| (name.as_str().to_owned(), value.clone()));
        let env = constants.chain(own).collect();
        let invocation = Invocation {
            call: call.spec.name.clone(),
            leading: arguments.leading,
            params: arguments.params,
            env,
            stderr: match plugin.manifest.stderr {
                Stderr::Log => StderrTo::Log,
                Stderr::Forward => StderrTo::Client,
            },
            grants: plugin.grants.clone(),
        };
        let deadlines =
            Deadlines { grace: plugin.manifest.cancel.grace.unwrap_or(self.grace), cleanup: self.cleanup_time };
        Ok(Order {
            counted: self.metrics.of(&call.spec.name),
            call,
            invocation,
            params,
            control,
            compute: self.compute.clone(),
            deadlines,
            starter: Starter {
                user: caller.user.clone(),
                owner: caller.principal.clone(),
                schedule: caller.schedule.clone(),
            },
            history: self.history.clone(),
        })
    }

    /// Detaches `process` from the connection of `caller`. The returned view applies back-pressure until it is dropped.
    /// Call before the process has written anything; its output is raw.
    pub fn keep(self: &Arc<Self>, registry: &Arc<Registry>, process: Process, caller: &Caller) -> Reader {
        self.keep_until(registry, process, caller, |_| {})
    }

    /// As [`Self::keep`]; calls `then` when the process has ended.
    pub fn keep_until(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        process: Process,
        caller: &Caller,
        then: impl FnOnce(&Outcome) + Send + 'static,
    ) -> Reader {
        let (dispatcher, starter) = (self.clone(), caller.clone());
        registry.keep(process, caller, move |process, outcome| {
            dispatcher.ended(process, &starter, outcome);
            then(outcome);
        })
    }

    /// Returns the detached process with this id, if there is one that `caller`, with `key`, is allowed to use.
    pub fn detached(&self, caller: &Caller, id: &str, key: Option<&str>) -> Option<Arc<Detached>> {
        let detached = self.registry.as_ref()?.get(id.parse().ok()?)?;
        detached.is_open_to(caller, key).then_some(detached)
    }

    /// Returns the processes that `caller` is allowed to see: those that run, newest first, and the detached ones.
    pub fn visible(&self, caller: &Caller) -> (Vec<Seen>, Vec<Arc<Detached>>) {
        let running = self.history.as_ref().map(|history| history.running(|owner| may_see(caller, owner)));
        let detached =
            self.registry.as_ref().map(|registry| registry.all(|detached| may_see(caller, &detached.owner.principal)));
        (running.unwrap_or_default(), detached.unwrap_or_default())
    }

    /// Records the end of `process`: one line in the log, and one entry in the history.
    pub fn ended(&self, process: &Process, caller: &Caller, outcome: &Outcome) {
        let control = process.control();
        let value = control.value().filter(|_| !process.call().spec.secret_value);
        if let Some(history) = &self.history {
            history.end(control, outcome, value.clone());
        }
        let spent = Usage {
            time: process.started().elapsed(),
            cpu: control.cpu(),
            bytes_in: control.input.total(),
            bytes_out: control.output.total(),
            commands: control.commands.count(),
            commands_cpu: control.commands.cpu(),
        };
        self.metrics.of(&process.call().spec.name).ended(outcome, spent);
        if let Some(mut span) = self.traced("process", caller, SystemTime::now() - spent.time) {
            let call = process.call();
            span.set("distillery.call", call.spec.name.as_str());
            span.set("distillery.plugin", call.plugin.name.as_str());
            span.set("distillery.generation", call.plugin.generation);
            span.set("distillery.process", control.id.to_string());
            span.set("distillery.outcome", if outcome.is_success() { "success" } else { outcome.kind() });
            if spent.commands > 0 {
                span.set("distillery.commands", spent.commands);
                span.set("distillery.commands_ms", control.commands.time().as_millis() as u64);
                span.set("distillery.commands_cpu_ms", spent.commands_cpu.as_millis() as u64);
                span.set("distillery.commands_memory", control.commands.memory_peak());
            }
            if let Some(failure) = outcome.failure() {
                span.fail(failure);
            }
        }
        tracing::info!(
            process = %control.id,
            call = %process.call().spec.name,
            generation = process.call().plugin.generation,
            user = caller.user,
            schedule = caller.schedule.as_deref(),
            kind = outcome.kind(),
            outcome = outcome.failure().as_deref().unwrap_or("success"),
            stop = outcome.stop().map(|stop| stop.name()),
            cleanup = outcome.cleanup(),
            value = value.as_deref(),
            ms = process.started().elapsed().as_millis() as u64,
            cpu_ms = control.cpu().as_millis() as u64,
            memory = control.memory_peak(),
            bytes_in = control.input.total(),
            bytes_out = control.output.total(),
            commands = (spent.commands > 0).then_some(spent.commands),
            commands_ms = (spent.commands > 0).then_some(control.commands.time().as_millis() as u64),
            commands_cpu_ms = (spent.commands > 0).then_some(spent.commands_cpu.as_millis() as u64),
            commands_memory = (spent.commands > 0).then_some(control.commands.memory_peak()),
            "process ended"
        );
    }
}

/// A call that its caller is allowed to run with these parameters.
pub struct Examined {
    pub call: Arc<Call>,
    /// The parameters that the client gave, with defaults.
    pub params: Vec<String>,
    /// The arguments of the guest.
    pub arguments: GuestArguments,
}

/// Returns the call with this name and the checked parameters, if `caller` is allowed to run it with them.
pub fn examine(catalog: &Catalog, caller: &Caller, name: &str, given: Arguments) -> Result<Examined, Refusal> {
    // Checked in this order: a plugin that loads between the two checks is in the snapshot.
    let loading = catalog.loading.provides(name);
    let Some(call) = catalog.snapshot().call(name).cloned() else {
        let refusal = if loading { Refusal::Loading } else { Refusal::UnknownCall };
        return Err(refusal(name.to_owned()));
    };
    if !may(caller, Permission::Run(&call.spec.name, call.spec.access)) {
        return Err(Refusal::NotAuthorized(name.to_owned()));
    }
    let params = call.spec.arrange(given).map_err(|bad| Refusal::BadParams(bad.to_string()))?;
    let checked = call.spec.check(params, &call.plugin.limits);
    let params = checked.map_err(|bad| Refusal::BadParams(bad.to_string()))?.into_inner();
    let arguments = call.plugin.arguments(&call.spec, params.clone());
    let arguments = arguments.map_err(|bad| Refusal::BadParams(bad.to_string()))?;
    Ok(Examined { call, params, arguments })
}

impl Order {
    /// Starts the process. Fails if the operator has revoked one of its rights since it was queued.
    fn start(self, permit: Permit) -> Result<Process, Refusal> {
        let _counted = self.call.plugin.enter();
        if self.call.plugin.is_revoked() {
            return Err(Refusal::RightsChanged(self.call.spec.name.as_str().to_owned()));
        }
        tracing::debug!(process = %self.control.id, call = %self.call.spec.name, "process started");
        if let Some(history) = &self.history {
            let begun = history::begun(&self.control, &self.starter, &self.call, &self.params);
            history.begin(&self.control, begun);
            if let Some(outputs) = history.outputs.as_ref().filter(|_| self.call.spec.keeps_output) {
                outputs.record(&self.control, self.call.plugin.manifest.stderr == Stderr::Log);
            }
        }
        self.counted.started();
        Ok(Process::start(self.call, self.invocation, self.deadlines, &self.compute, self.control, permit))
    }
}

impl Admitted {
    /// Switches to raw output with separate stderr. Call before the process starts.
    pub fn raw_output(&self) {
        let (control, plugin) = (self.control(), &self.call().plugin);
        control.output.raw_output();
        if plugin.manifest.stderr == Stderr::Forward {
            control.stderr.give_apart(plugin.limits.output.map(|limit| limit.get()));
        }
    }

    pub fn call(&self) -> &Arc<Call> {
        match self {
            Self::Now(process) => process.call(),
            Self::Later(queued) => &queued.call,
        }
    }

    pub fn control(&self) -> &Arc<Control> {
        match self {
            Self::Now(process) => process.control(),
            Self::Later(queued) => &queued.control,
        }
    }
}

impl Queued {
    /// Returns the position in the queue, from 1.
    pub fn position(&self) -> usize {
        self.turn.position()
    }

    /// Becomes ready when there is a slot for the call, or when the wait has timed out.
    pub fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Result<Process, Refusal>> {
        if let Poll::Ready(permit) = Pin::new(&mut self.turn).poll(cx) {
            let order = self.order.take().expect("a queued call is not polled after it was started");
            self.metrics.waited(now.saturating_duration_since(self.asked));
            self.wait = None;
            return Poll::Ready(order.start(permit).inspect_err(|refusal| self.metrics.refused(refusal)));
        }
        if now < self.until {
            return Poll::Pending;
        }
        let refusal = Refusal::Full(self.turn.full());
        self.metrics.refused(&refusal);
        self.order = None;
        if let Some(mut wait) = self.wait.take() {
            wait.fail(refusal.to_string());
        }
        Poll::Ready(Err(refusal))
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.order.is_some() {
            self.metrics.left_queue();
        }
    }
}
