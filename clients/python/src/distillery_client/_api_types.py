"""Types of the JSON API. Written by clients/generate.py from openapi.json."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class AcceptedProcess(TypedDict):
    """The process that a detached call has become."""

    call: str
    generation: int
    id: str
    # Access key; present if the process has no owner.
    key: NotRequired[str | None]


class Call(TypedDict):
    """A call, in the API's representation."""

    # The callers that can run the call: `public` for everyone, otherwise holders of its scope.
    access: Literal["public", "scoped"]
    description: str
    name: str
    # The action when the client disconnects: cancel the call, or detach it.
    on_disconnect: Literal["cancel", "detach"]
    # The parameters in order. Null allows any number of any parameters.
    params: list[CallParameter] | None
    plugin: str


class CallDescription(TypedDict):
    """A call with its input, as the body of a request."""

    # Whether the process outlives the request, which gets 202 with its id.
    detach: NotRequired[bool]
    # The parameters: a list in order, or an object by name.
    params: NotRequired[list[str] | dict[str, Any] | None]
    # The input of the call; none by default.
    stdin: NotRequired[str]


class CallParameter(TypedDict):
    """A parameter and its rules."""

    choices: list[str] | None
    # The value if the parameter is omitted; the default of a secret is not shown.
    default: str | None
    description: str
    name: str
    # A regular expression that the whole value must match.
    pattern: str | None
    required: bool
    # Whether the parameter takes all remaining values.
    rest: bool
    # Whether the value is kept out of the log and the history.
    secret: bool


class Caller(TypedDict):
    """The caller, in the API's representation."""

    Explain: NotRequired[Explanation | None]
    Scopes: list[str]
    # Whether the caller authenticated with a token.
    Token: bool
    # The user's name; empty for an anonymous caller.
    User: str


class Commands(TypedDict):
    count: int
    cpu_ms: int
    # The peak memory in bytes of the largest of their processes.
    memory: int
    # The time that they ran, also side by side.
    ms: int


class Explanation(TypedDict):
    """Whether the caller is allowed one action, and the rule that decides."""

    Allowed: bool
    Rule: str
    Scope: str


class Files(TypedDict):
    """The files of a plugin."""

    # The guest's path of them.
    at: str
    # The number of files and links.
    count: int
    # The size of all of them together, in bytes.
    size: int


class Generation(TypedDict):
    """A generation of a plugin."""

    at: str
    digest: str | None
    generation: int
    processes: int
    # The state in words: serving, the number of remaining processes, or the reason of a failure.
    state: str


class Grants(TypedDict):
    """The resources of a plugin for display: names only, never values or paths."""

    # Programs of the server's machine.
    commands: list[str]
    env: list[str]
    http: list[str]
    mounts: list[Mount]
    # The size of a private `/tmp`.
    scratch: str | None
    secrets: list[str]
    # The public systems.
    systems: Literal["read", "write"] | None


class Holder(TypedDict):
    """A generation whose processes hold revoked rights."""

    generation: int
    # The ids of some of these processes, newest first.
    ids: list[str]
    plugin: str
    processes: int
    # The revoked rights, in words.
    rights: list[str]


class Login(TypedDict):
    password: str
    user: str


class Mount(TypedDict):
    # The path inside the sandbox.
    at: str
    name: str
    write: bool


class NewNews(TypedDict):
    """The fields of an item to write: named as in the answers, with Markdown as content."""

    # Markdown. It is displayed as HTML without active content.
    Content: str
    # A date or a time; now if it is missing.
    Date: NotRequired[str | None]
    # The id; a new unique one if it is missing.
    ID: NotRequired[str | None]
    # The title, in one line.
    Title: str


class NewSystem(TypedDict):
    """The fields of a system to write, named as in the answers."""

    BundleCount: NotRequired[int]
    EntityCount: NotRequired[int]
    # The time of the last edit; never edited if it is missing.
    LastEdit: NotRequired[str | None]
    # The unique name: lowercase letters, digits and dashes, beginning with a letter.
    Slug: str
    # A description, in one line.
    Tagline: NotRequired[str]
    # The address of the system.
    URL: str


class NewToken(TypedDict):
    # The lifetime, such as 30d or 12h; the token never expires if it is missing.
    expires: NotRequired[str | None]
    # The purpose, in one line.
    label: NotRequired[str]
    # The scopes; all scopes of the caller if it is missing.
    scopes: NotRequired[list[str] | None]


class NewsItem(TypedDict):
    """A news item, in JSON with the names that clients read."""

    # Sanitized HTML, without scripts.
    Content: str
    Date: str
    ID: str
    Title: str


class Plugin(TypedDict):
    """A plugin, in the API's representation."""

    calls: list[str]
    description: str
    digest: str | None
    # The constants in the environment of its processes.
    env: dict[str, Any]
    # The reason why the version in the directory is not served.
    error: str | None
    # The files that the plugin brings along; null if there are none.
    files: Files | None
    # The generation that is served.
    generation: int | None
    # The generations, newest first.
    generations: list[Generation]
    # The granted resources outside the sandbox.
    grants: Grants | None
    # The interpreter that runs its scripts; null if it has a module or a command.
    interpreter: str | None
    kind: str | None
    loaded: str | None
    name: str
    # The generation that a rollback would serve.
    previous: int | None
    # The number of running processes of all generations.
    processes: int
    # The state: `serving`; `loading` until it is loaded at the start; `failed` if it never served; or `removed` if only
    # processes are left.
    state: Literal["serving", "loading", "failed", "removed"]


class Process(TypedDict):
    """A process, in the API's representation."""

    bytes_in: int
    bytes_out: int
    call: str
    cleanup: str | None
    # The granted commands that have ended; null if there were none.
    commands: Commands | None
    cpu_ms: int
    ended: str | None
    # The generation of the plugin.
    generation: int
    id: str
    # Whether the output is kept, so that a client can attach.
    kept: bool
    # The peak memory in bytes.
    memory: int
    # The reason of a failure.
    message: str | None
    outcome: Literal["running", "success", "exited", "trapped", "cancelled", "failed", "interrupted"]
    # The values of the parameters; secrets are null.
    params: list[str | None]
    plugin: str
    # The schedule that started it for the user, if any.
    schedule: str | None
    started: str
    # The strongest measure that the server needed to end the process, if any.
    stop: str | None
    # The user's name; empty for an anonymous caller.
    user: str
    # The result value of the call, if it set one.
    value: Any


class Reload(TypedDict):
    """The result of a reload."""

    # The keys of the configuration whose new values apply from now on.
    changed: list[str]
    # The reason why the configuration is unchanged.
    error: str | None
    # The generations whose processes hold more rights than the configuration now grants. The processes keep these
    # rights until they end.
    holders: list[Holder]
    plugins: list[Plugin]
    # The keys whose new values apply after the next start.
    restart: list[str]


class Rollback(TypedDict):
    """The result of a rollback."""

    # The reason why a restart will forget the rollback, such as a full disk.
    forgotten: NotRequired[str | None]
    generation: int
    plugin: str


class Schedule(TypedDict):
    """A schedule, in the API's representation."""

    call: str
    # The cron expression.
    cron: str
    # The longest random delay of a run, in milliseconds.
    jitter_ms: int
    # The last due time, and what became of it.
    last: ScheduleRun | None
    missed: Literal["skip", "run_once"]
    name: str
    # The next due time; null if the schedule is paused.
    next: str | None
    overlap: Literal["skip", "queue", "cancel", "allow"]
    # The values of the parameters. Secrets are null, and so is every value while the call does not exist.
    params: list[str | None]
    # The reason why no run is due.
    paused: str | None
    # The reason why a run would be refused now.
    problem: str | None
    # The number of runs of this server that have not ended.
    running: int
    # The user whose rights decide, or `operator`.
    user: str
    # The due time whose run waits for the end of an earlier one.
    waiting: str | None
    # The time zone of the cron expression.
    zone: str


class ScheduleRun(TypedDict):
    """A due time of a schedule, and what became of it."""

    # The time at which a server took it up.
    began: str
    due: str
    # The reason of a failure, or why there was no run.
    message: str | None
    # The id of its process, if it has begun.
    process: str | None
    # The outcome of its process, or the state before that.
    state: Literal["starting", "running", "skipped", "missed", "refused", "success", "exited", "trapped", "cancelled", "failed", "interrupted"]


class System(TypedDict):
    """A public system, in JSON with the names that clients of the directory read."""

    BundleCount: int
    EntityCount: int
    # Null if it was never edited.
    LastEdit: str | None
    Slug: str
    Tagline: str
    URL: str


class Token(TypedDict):
    """A token, in the API's representation; the answer to its creation includes the secret."""

    created: str
    # The time of expiry; never if it is missing.
    expires: str | None
    id: str
    label: str
    # The id of the token that created this one, if any.
    parent: str | None
    scopes: list[str]
    # The secret, only in the answer that creates the token.
    token: NotRequired[str | None]
    # The time of the last use, to the minute.
    used: str | None
