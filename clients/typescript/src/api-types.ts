// Types of the JSON API. Written by clients/generate.py from openapi.json.

/** The process that a detached call has become. */
export interface AcceptedProcess {
  call: string;
  generation: number;
  id: string;
  /** Access key; present if the process has no owner. */
  key?: string | null;
}

/** A call, in the API's representation. */
export interface Call {
  /** The callers that can run the call: `public` for everyone, otherwise holders of its scope. */
  access: "public" | "scoped";
  description: string;
  name: string;
  /** The action when the client disconnects: cancel the call, or detach it. */
  on_disconnect: "cancel" | "detach";
  /** The parameters in order. Null allows any number of any parameters. */
  params: CallParameter[] | null;
  plugin: string;
}

/** A call with its input, as the body of a request. */
export interface CallDescription {
  /** Whether the process outlives the request, which gets 202 with its id. */
  detach?: boolean;
  /** The parameters: a list in order, or an object by name. */
  params?: string[] | Record<string, unknown> | null;
  /** The input of the call; none by default. */
  stdin?: string;
}

/** A parameter and its rules. */
export interface CallParameter {
  choices: string[] | null;
  /** The value if the parameter is omitted; the default of a secret is not shown. */
  default: string | null;
  description: string;
  name: string;
  /** A regular expression that the whole value must match. */
  pattern: string | null;
  required: boolean;
  /** Whether the parameter takes all remaining values. */
  rest: boolean;
  /** Whether the value is kept out of the log and the history. */
  secret: boolean;
}

/** The caller, in the API's representation. */
export interface Caller {
  Explain?: Explanation | null;
  Scopes: string[];
  /** Whether the caller authenticated with a token. */
  Token: boolean;
  /** The user's name; empty for an anonymous caller. */
  User: string;
}

export interface Commands {
  count: number;
  cpu_ms: number;
  /** The peak memory in bytes of the largest of their processes. */
  memory: number;
  /** The time that they ran, also side by side. */
  ms: number;
}

/** Whether the caller is allowed one action, and the rule that decides. */
export interface Explanation {
  Allowed: boolean;
  Rule: string;
  Scope: string;
}

/** The files of a plugin. */
export interface Files {
  /** The guest's path of them. */
  at: string;
  /** The number of files and links. */
  count: number;
  /** The size of all of them together, in bytes. */
  size: number;
}

/** A generation of a plugin. */
export interface Generation {
  at: string;
  digest: string | null;
  generation: number;
  processes: number;
  /** The state in words: serving, the number of remaining processes, or the reason of a failure. */
  state: string;
}

/** The resources of a plugin for display: names only, never values or paths. */
export interface Grants {
  /** Programs of the server's machine. */
  commands: string[];
  env: string[];
  http: string[];
  mounts: Mount[];
  /** The size of a private `/tmp`. */
  scratch: string | null;
  secrets: string[];
  /** The public systems. */
  systems: "read" | "write" | null;
}

/** A generation whose processes hold revoked rights. */
export interface Holder {
  generation: number;
  /** The ids of some of these processes, newest first. */
  ids: string[];
  plugin: string;
  processes: number;
  /** The revoked rights, in words. */
  rights: string[];
}

export interface Login {
  password: string;
  user: string;
}

export interface Mount {
  /** The path inside the sandbox. */
  at: string;
  name: string;
  write: boolean;
}

/** The fields of an item to write: named as in the answers, with Markdown as content. */
export interface NewNews {
  /** Markdown. It is displayed as HTML without active content. */
  Content: string;
  /** A date or a time; now if it is missing. */
  Date?: string | null;
  /** The id; a new unique one if it is missing. */
  ID?: string | null;
  /** The title, in one line. */
  Title: string;
}

/** The fields of a system to write, named as in the answers. */
export interface NewSystem {
  BundleCount?: number;
  EntityCount?: number;
  /** The time of the last edit; never edited if it is missing. */
  LastEdit?: string | null;
  /** The unique name: lowercase letters, digits and dashes, beginning with a letter. */
  Slug: string;
  /** A description, in one line. */
  Tagline?: string;
  /** The address of the system. */
  URL: string;
}

export interface NewToken {
  /** The lifetime, such as 30d or 12h; the token never expires if it is missing. */
  expires?: string | null;
  /** The purpose, in one line. */
  label?: string;
  /** The scopes; all scopes of the caller if it is missing. */
  scopes?: string[] | null;
}

/** A news item, in JSON with the names that clients read. */
export interface NewsItem {
  /** Sanitized HTML, without scripts. */
  Content: string;
  Date: string;
  ID: string;
  Title: string;
}

/** A plugin, in the API's representation. */
export interface Plugin {
  calls: string[];
  description: string;
  digest: string | null;
  /** The constants in the environment of its processes. */
  env: Record<string, unknown>;
  /** The reason why the version in the directory is not served. */
  error: string | null;
  /** The files that the plugin brings along; null if there are none. */
  files: Files | null;
  /** The generation that is served. */
  generation: number | null;
  /** The generations, newest first. */
  generations: Generation[];
  /** The granted resources outside the sandbox. */
  grants: Grants | null;
  /** The interpreter that runs its scripts; null if it has a module or a command. */
  interpreter: string | null;
  kind: string | null;
  loaded: string | null;
  name: string;
  /** The generation that a rollback would serve. */
  previous: number | null;
  /** The number of running processes of all generations. */
  processes: number;
  /**
   * The state: `serving`; `loading` until it is loaded at the start; `failed` if it never served; or `removed` if only
   * processes are left.
   */
  state: "serving" | "loading" | "failed" | "removed";
}

/** A process, in the API's representation. */
export interface Process {
  bytes_in: number;
  bytes_out: number;
  call: string;
  cleanup: string | null;
  /** The granted commands that have ended; null if there were none. */
  commands: Commands | null;
  cpu_ms: number;
  ended: string | null;
  /** The generation of the plugin. */
  generation: number;
  id: string;
  /** Whether the output is kept, so that a client can attach. */
  kept: boolean;
  /** The peak memory in bytes. */
  memory: number;
  /** The reason of a failure. */
  message: string | null;
  outcome: "running" | "success" | "exited" | "trapped" | "cancelled" | "failed" | "interrupted";
  /** The values of the parameters; secrets are null. */
  params: (string | null)[];
  plugin: string;
  /** The schedule that started it for the user, if any. */
  schedule: string | null;
  started: string;
  /** The strongest measure that the server needed to end the process, if any. */
  stop: string | null;
  /** The user's name; empty for an anonymous caller. */
  user: string;
  /** The result value of the call, if it set one. */
  value: unknown;
}

/** The result of a reload. */
export interface Reload {
  /** The keys of the configuration whose new values apply from now on. */
  changed: string[];
  /** The reason why the configuration is unchanged. */
  error: string | null;
  /**
   * The generations whose processes hold more rights than the configuration now grants. The processes keep these rights
   * until they end.
   */
  holders: Holder[];
  plugins: Plugin[];
  /** The keys whose new values apply after the next start. */
  restart: string[];
}

/** The result of a rollback. */
export interface Rollback {
  /** The reason why a restart will forget the rollback, such as a full disk. */
  forgotten?: string | null;
  generation: number;
  plugin: string;
}

/** A schedule, in the API's representation. */
export interface Schedule {
  call: string;
  /** The cron expression. */
  cron: string;
  /** The longest random delay of a run, in milliseconds. */
  jitter_ms: number;
  /** The last due time, and what became of it. */
  last: ScheduleRun | null;
  missed: "skip" | "run_once";
  name: string;
  /** The next due time; null if the schedule is paused. */
  next: string | null;
  overlap: "skip" | "queue" | "cancel" | "allow";
  /** The values of the parameters. Secrets are null, and so is every value while the call does not exist. */
  params: (string | null)[];
  /** The reason why no run is due. */
  paused: string | null;
  /** The reason why a run would be refused now. */
  problem: string | null;
  /** The number of runs of this server that have not ended. */
  running: number;
  /** The user whose rights decide, or `operator`. */
  user: string;
  /** The due time whose run waits for the end of an earlier one. */
  waiting: string | null;
  /** The time zone of the cron expression. */
  zone: string;
}

/** A due time of a schedule, and what became of it. */
export interface ScheduleRun {
  /** The time at which a server took it up. */
  began: string;
  due: string;
  /** The reason of a failure, or why there was no run. */
  message: string | null;
  /** The id of its process, if it has begun. */
  process: string | null;
  /** The outcome of its process, or the state before that. */
  state:
    | "starting"
    | "running"
    | "skipped"
    | "missed"
    | "refused"
    | "success"
    | "exited"
    | "trapped"
    | "cancelled"
    | "failed"
    | "interrupted";
}

/** A public system, in JSON with the names that clients of the directory read. */
export interface System {
  BundleCount: number;
  EntityCount: number;
  /** Null if it was never edited. */
  LastEdit: string | null;
  Slug: string;
  Tagline: string;
  URL: string;
}

/** A token, in the API's representation; the answer to its creation includes the secret. */
export interface Token {
  created: string;
  /** The time of expiry; never if it is missing. */
  expires: string | null;
  id: string;
  label: string;
  /** The id of the token that created this one, if any. */
  parent: string | null;
  scopes: string[];
  /** The secret, only in the answer that creates the token. */
  token?: string | null;
  /** The time of the last use, to the minute. */
  used: string | null;
}
