// The JSON API: questions that are answered at once.

import type * as Types from "./api-types.ts";
import { ApiError, ConnectError, apiFailure } from "./errors.ts";

/** Sends a request; the `fetch` of the platform. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Which processes to list, newest first. */
export interface ProcessFilter {
  limit?: number;
  /** Only processes that began before the one with this identifier. */
  before?: string;
  call?: string;
  user?: string;
  outcome?: Types.Process["outcome"];
}

type Query = Record<string, string | number | boolean | undefined>;

/** A request that takes longer has failed. */
const TIMEOUT = 30_000;

export class Api {
  readonly #base: string;
  readonly #token: string | undefined;
  readonly #fetch: Fetch;
  readonly #credentials: RequestCredentials | undefined;

  /** @internal */
  constructor(base: string, token: string | undefined, fetch: Fetch, credentials: RequestCredentials | undefined) {
    this.#base = base;
    this.#token = token;
    this.#fetch = fetch;
    this.#credentials = credentials;
  }

  /** Returns the caller. With a scope also whether it is allowed, and by which rule. */
  auth(explain?: string): Promise<Types.Caller> {
    return this.request("GET", "/auth", { query: { explain } });
  }

  /** Logs a browser in: the server sets a cookie. */
  login(user: string, password: string): Promise<Types.Caller> {
    return this.request("POST", "/auth/session", { body: { user, password } });
  }

  /** Logs a browser out. */
  logout(): Promise<void> {
    return this.request("DELETE", "/auth/session");
  }

  /** Lists your own tokens. */
  tokens(): Promise<Types.Token[]> {
    return this.request("GET", "/auth/tokens");
  }

  /** Makes a token. Only this answer has its secret. */
  addToken(token: Types.NewToken = {}): Promise<Types.Token> {
    return this.request("POST", "/auth/tokens", { body: token });
  }

  revokeToken(id: string): Promise<void> {
    return this.request("DELETE", `/auth/tokens/${encodeURIComponent(id)}`);
  }

  /** Lists the calls that you can run, with their parameters. */
  calls(): Promise<Types.Call[]> {
    return this.request("GET", "/calls");
  }

  /** Lists the schedules that you can see. */
  schedules(): Promise<Types.Schedule[]> {
    return this.request("GET", "/schedules");
  }

  /** Lists the public systems. */
  systems(): Promise<Types.System[]> {
    return this.request("GET", "/systems");
  }

  /** Creates or replaces a system. */
  putSystem(system: Types.NewSystem): Promise<Types.System> {
    return this.request("POST", "/systems", { body: system });
  }

  removeSystem(slug: string): Promise<void> {
    return this.request("DELETE", `/systems/${encodeURIComponent(slug)}`);
  }

  /** Lists the news, newest first. */
  news(): Promise<Types.NewsItem[]> {
    return this.request("GET", "/news");
  }

  /** Creates or replaces an item. */
  putNews(item: Types.NewNews): Promise<Types.NewsItem> {
    return this.request("POST", "/news", { body: item });
  }

  removeNews(id: string): Promise<void> {
    return this.request("DELETE", `/news/${encodeURIComponent(id)}`);
  }

  /** Lists running and past processes, newest first. */
  processes(filter: ProcessFilter = {}): Promise<Types.Process[]> {
    return this.request("GET", "/processes", { query: { ...filter } });
  }

  process(id: string): Promise<Types.Process> {
    return this.request("GET", `/processes/${encodeURIComponent(id)}`);
  }

  /** Tells a running process to stop; with `force` without its grace period. */
  cancelProcess(id: string, { force = false }: { force?: boolean } = {}): Promise<Types.Process> {
    return this.request("DELETE", `/processes/${encodeURIComponent(id)}`, { query: force ? { force } : {} });
  }

  /** Lists the plugins and their generations. */
  plugins(): Promise<Types.Plugin[]> {
    return this.request("GET", "/plugins");
  }

  /** Reads the configuration and all plugins again. */
  reloadPlugins(): Promise<Types.Reload> {
    return this.request("POST", "/plugins/reload");
  }

  /** Serves the previous generation of a plugin. */
  rollBackPlugin(name: string): Promise<Types.Rollback> {
    return this.request("POST", `/plugins/${encodeURIComponent(name)}/rollback`);
  }

  /** Sends a request to a route below `/api/v1`, and returns the JSON of its answer. */
  async request<T>(
    method: string,
    route: string,
    { query = {}, body }: { query?: Query; body?: unknown } = {},
  ): Promise<T> {
    const asked = Object.entries(query).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value)]],
    );
    const search = asked.length === 0 ? "" : `?${new URLSearchParams(asked as [string, string][])}`;
    const headers: Record<string, string> = { accept: "application/json" };
    if (this.#token !== undefined) headers["authorization"] = `Bearer ${this.#token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const init: RequestInit = { method, headers, signal: AbortSignal.timeout(TIMEOUT) };
    if (body !== undefined) init.body = JSON.stringify(body);
    if (this.#credentials !== undefined) init.credentials = this.#credentials;
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(`${this.#base}${route}${search}`, init);
      text = await response.text();
    } catch (error) {
      throw new ConnectError(
        `cannot reach ${this.#base}: ${reason(error)}: does the server run, and is its URL right?`,
        {
          cause: error,
        },
      );
    }
    if (!response.ok) throw new ApiError(response.status, apiFailure(response.status, messageOf(text)));
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }
}

/** Returns the reason, which the `fetch` of Node has only in the cause. */
function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error && cause.message !== "" ? cause.message : message;
}

/** Returns the message of an error answer. */
export function messageOf(text: string): string | undefined {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === "string" ? message : undefined;
  } catch {
    // An answer of something in front of the server.
    return undefined;
  }
}
