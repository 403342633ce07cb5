//! The requests of the protocol, for one session or one request: tools, their calls, and notifications.

use super::{
    answer::Collected,
    log::{self, Level, Log},
    paused::{self, Paused},
    run::{Message, Run},
    tools,
};
use crate::api::{ApiState, auth::Authenticated};
use axum::{extract::FromRequestParts, http::request::Parts};
use distillery_core::{
    auth::{self, Caller, Permission},
    stream::Stream,
};
use distillery_plugin::{
    Call,
    generation::{Change, What},
};
use distillery_process::dispatch;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult,
        ElicitationAction, ElicitationSchema, Implementation, InputRequest, InputRequests, InputRequiredResult,
        InputResponses, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProgressToken,
        ProtocolVersion, ServerConfig, ServerRequest, SubscriptionFilter,
    },
    service::{NotificationContext, Peer, RequestContext, SubscriptionContext},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The property of a question's form, and the name of the question.
const ANSWER: &str = "answer";
/// The silence after which a call that waits for input, and has written no prompt, counts as asking. It can wait for
/// something else as well, such as a timer.
const SILENCE: Duration = Duration::from_secs(3);
/// The shortest time between two notifications of progress.
const PROGRESS: Duration = Duration::from_millis(40);

const ABOUT: &str = "Each tool is a call of this server. It runs in a sandbox until it ends or is cancelled. A call that \
                     reads input can be given all of it as stdin; without stdin it can ask questions.";

/// The calls of the server as tools.
pub(super) struct Tools {
    state: Arc<ApiState>,
    paused: Arc<Paused>,
    log: Log,
    ended: CancellationToken,
    _guard: DropGuard,
}

/// How a call goes on when it asks a question.
enum Ask {
    /// The client is asked at once, in the course of its request.
    Now,
    /// The request ends with the question, and another brings the answer.
    Later,
    /// The client answers no questions: the call has no input.
    Never,
}

impl Tools {
    pub fn new(state: Arc<ApiState>, paused: Arc<Paused>) -> Self {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        Self { state, paused, log: Log::default(), ended, _guard: guard }
    }

    /// Returns the call of this name, if the caller can run it.
    fn call(&self, name: &str, caller: &Caller) -> Result<Arc<Call>, ErrorData> {
        let snapshot = self.state.catalog.snapshot();
        let call = snapshot.call(name).filter(|call| may_run(caller, call)).cloned();
        call.ok_or_else(|| ErrorData::invalid_params(format!("there is no tool {name:?} for this caller"), None))
    }

    /// Runs a call until it ends or has a question for another request.
    async fn converse(
        &self,
        mut call: paused::Call,
        ask: &Ask,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut progress = context.meta.get_progress_token().map(Progress::new);
        let mut silence = None;
        loop {
            let message = tokio::select! {
                message = call.run.next() => message,
                () = silent_until(silence) => Message::Waiting,
                // Dropping the call cancels it.
                () = context.ct.cancelled() => return Err(ErrorData::internal_error("the call was cancelled", None)),
            };
            match message {
                Message::Output(stream, bytes) => {
                    silence = None;
                    call.output.add(stream, &bytes);
                    if stream == Stream::Stderr {
                        self.log.tell(&context.peer, &call.name, &bytes).await;
                    } else if let Some(progress) = &mut progress {
                        progress.tell(&context.peer, &call.output).await;
                    }
                }
                Message::Waiting if matches!(ask, Ask::Never) => {}
                Message::Waiting if silence.is_none() && !call.output.is_prompt() => {
                    silence = Some(Instant::now() + SILENCE);
                }
                Message::Waiting => {
                    silence = None;
                    match ask {
                        Ask::Later => return self.pause(call),
                        _ => self.ask(&mut call, context).await?,
                    }
                }
                Message::Ended(outcome) => return Ok(call.output.result(outcome).into()),
            }
        }
    }

    /// Asks the client, and gives its answer to the call.
    async fn ask(&self, call: &mut paused::Call, context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
        let request = ServerRequest::ElicitRequest(ElicitRequest::new(question(call)));
        let answer = tokio::select! {
            answer = context.peer.send_request(request) => answer,
            () = context.ct.cancelled() => return Err(ErrorData::internal_error("the call was cancelled", None)),
        };
        match answer {
            Ok(ClientResult::ElicitResult(answer)) => give(call, answer).await,
            _ => Err(ErrorData::internal_error("the client did not answer the question of the call", None)),
        }
    }

    /// Keeps the call, and returns its question.
    fn pause(&self, mut call: paused::Call) -> Result<CallToolResponse, ErrorData> {
        let request = InputRequest::Elicitation(ElicitRequest::new(question(&mut call)));
        let too_many = "too many calls wait for answers: the call was cancelled, try again later";
        let state = self.paused.keep(call).ok_or_else(|| ErrorData::internal_error(too_many, None))?;
        let requests = InputRequests::from([(ANSWER.to_owned(), request)]);
        Ok(InputRequiredResult::new(Some(requests), Some(state)).into())
    }

    /// Continues with a call whose question a client has answered.
    async fn resume(
        &self,
        state: &str,
        request: &CallToolRequestParams,
        caller: &Caller,
    ) -> Result<paused::Call, ErrorData> {
        let gone = "this question is not open any more: call the tool again";
        let call = self.paused.take(state, &request.name, &caller.user);
        let mut call = call.ok_or_else(|| ErrorData::invalid_params(gone, None))?;
        let answer = request.input_responses.as_ref().and_then(|it: &InputResponses| it.get(ANSWER)).cloned();
        let answer: ElicitResult = serde_json::from_value(answer.unwrap_or_default())
            .map_err(|_| ErrorData::invalid_params(format!("inputResponses has no answer {ANSWER:?}"), None))?;
        give(&mut call, answer).await?;
        Ok(call)
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let server = Implementation::new("distillery", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(log::capabilities()).with_server_info(server).with_instructions(ABOUT)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let (_, caller) = caller(&context).await?;
        let snapshot = self.state.catalog.snapshot();
        let mut calls: Vec<&Arc<Call>> = snapshot.calls().filter(|call| may_run(&caller, call)).collect();
        calls.sort_by_key(|call| call.spec.name.as_str());
        Ok(ListToolsResult::with_all_items(calls.into_iter().map(|call| tools::tool(call)).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let (parts, caller) = caller(&context).await?;
        let ask = way(&context);
        if let Some(state) = &request.request_state {
            let call = self.resume(state, &request, &caller).await?;
            return self.converse(call, &ask, &context).await;
        }
        let call = self.call(&request.name, &caller)?;
        let given = match tools::given(&call, request.arguments) {
            Ok(given) => given,
            Err(wrong) => return Err(ErrorData::invalid_params(wrong, None)),
        };
        let (stdin, ask) = match (given.stdin, ask) {
            (Some(stdin), _) => (Some(stdin), Ask::Never),
            // A granted command always waits for input, whether it wants any or not.
            (None, _) if call.plugin.manifest.command.is_some() => (Some(String::new()), Ask::Never),
            (None, Ask::Never) => (Some(String::new()), Ask::Never),
            (None, ask) => (None, ask),
        };
        let name = call.spec.name.to_string();
        let wanted = dispatch::Request { call: name.clone(), params: given.params };
        let run = Run::start(&self.state, &parts, wanted, stdin).await;
        let call = paused::Call { name, user: caller.user.to_string(), run, output: Collected::default() };
        self.converse(call, &ask, &context).await
    }

    async fn set_level(&self, request: Level, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.log.set(&request);
        Ok(())
    }

    /// Tells the client of a session each time that the calls change.
    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let (mut changes, ended, peer) = (self.state.catalog.changes(), self.ended.clone(), context.peer);
        tokio::spawn(async move {
            while ended.run_until_cancelled(changed(&mut changes)).await == Some(true) {
                if peer.notify_tool_list_changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn accepted_subscription_filter(&self, _: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(SubscriptionFilter::builder().tools_list_changed().build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.state.catalog.changes();
        loop {
            tokio::select! {
                there_are = changed(&mut changes) => {
                    if !there_are || context.sink().notify_tool_list_changed().await.is_err() {
                        return Ok(());
                    }
                }
                () = context.cancelled() => return Ok(()),
            }
        }
    }
}

/// Waits until calls have changed. Returns false when the server ends.
async fn changed(changes: &mut Receiver<Change>) -> bool {
    loop {
        match changes.recv().await {
            Ok(Change { what: What::Serving { .. } | What::Removed, .. }) | Err(RecvError::Lagged(_)) => return true,
            Ok(_) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}

/// Waits until this moment; without one, for ever.
async fn silent_until(silence: Option<Instant>) {
    match silence {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

fn may_run(caller: &Caller, call: &Call) -> bool {
    auth::may(caller, Permission::Run(&call.spec.name, call.spec.access))
}

/// Returns the request of the client, and who sent it.
async fn caller(context: &RequestContext<RoleServer>) -> Result<(Parts, Caller), ErrorData> {
    let parts = context.extensions.get::<Parts>().cloned();
    let mut parts = parts.ok_or_else(|| ErrorData::internal_error("the request of the client is not known", None))?;
    let Ok(Authenticated(caller)) = Authenticated::from_request_parts(&mut parts, &()).await;
    Ok((parts, caller))
}

/// Returns how this client can be asked.
fn way(context: &RequestContext<RoleServer>) -> Ask {
    let answers = context.client_capabilities().is_some_and(|client| client.elicitation.is_some());
    match context.protocol_version() {
        _ if !answers => Ask::Never,
        Some(version) if version.as_str() >= ProtocolVersion::V_2026_07_28.as_str() => Ask::Later,
        _ => Ask::Now,
    }
}

/// Returns the question of a call as a form with one field.
fn question(call: &mut paused::Call) -> ElicitRequestParams {
    let schema = ElicitationSchema::builder().required_string(ANSWER).build_unchecked();
    let message = call.output.question(&call.name);
    ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema: schema }
}

/// Gives the answer to the call. Without one, its input ends.
async fn give(call: &mut paused::Call, answer: ElicitResult) -> Result<(), ErrorData> {
    match answer.action {
        ElicitationAction::Accept => {
            let content = answer.content.unwrap_or_default();
            let line = content.get(ANSWER).and_then(|it| it.as_str()).unwrap_or_default();
            call.run.answer(line).await;
            Ok(())
        }
        ElicitationAction::Decline => {
            call.run.end_input();
            Ok(())
        }
        _ => Err(ErrorData::internal_error("the call was cancelled, as its question was", None)),
    }
}

/// The progress of a call: each notification has the last line of its output.
struct Progress {
    token: ProgressToken,
    count: u32,
    last: Option<Instant>,
}

impl Progress {
    fn new(token: ProgressToken) -> Self {
        Self { token, count: 0, last: None }
    }

    async fn tell(&mut self, peer: &Peer<RoleServer>, output: &Collected) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now < last + PROGRESS) {
            return;
        }
        let Some(line) = output.last_line() else { return };
        self.last = Some(now);
        self.count += 1;
        let progress = ProgressNotificationParam::new(self.token.clone(), self.count.into()).with_message(line);
        // A client that has gone gets no result either.
        let _ = peer.notify_progress(progress).await;
    }
}
