// Types of the JSON API. Written by clients/generate.py from openapi.json.

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

/** Whether the caller is allowed one action, and the rule that decides. */
export interface Explanation {
  Allowed: boolean;
  Rule: string;
  Scope: string;
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
  /** The reason why the version in the directory is not served. */
  error: string | null;
  /** The generation that is served. */
  generation: number | null;
  /** The generations, newest first. */
  generations: Generation[];
  /** The granted resources outside the sandbox. */
  grants: Grants | null;
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
