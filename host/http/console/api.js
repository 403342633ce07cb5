// The JSON API as the console uses it, and the caller that the server sees.

/**
 * @typedef {{
 *   name: string, description: string, pattern: string | null, choices: string[] | null, default: string | null,
 *   required: boolean, secret: boolean, rest: boolean,
 * }} Param
 * @typedef {{
 *   name: string, description: string, access: "public" | "scoped", params: Param[] | null,
 *   on_disconnect: "cancel" | "detach", plugin: string,
 * }} Call
 * @typedef {{
 *   id: string, call: string, plugin: string, generation: number, user: string, params: (string | null)[],
 *   schedule: string | null, started: string, ended: string | null, kept: boolean, outcome: string, message: string | null,
 *   stop: string | null, cleanup: string | null, value: unknown,
 *   cpu_ms: number, memory: number, bytes_in: number, bytes_out: number,
 * }} ProcessRecord
 * @typedef {string | { name: string, at: string, write?: boolean }} Mount
 * @typedef {{
 *   mounts?: Mount[], http?: string[], env?: string[], secrets?: string[], systems?: string | null,
 *   scratch?: string | null, commands?: string[],
 * }} Grants
 * @typedef {{ generation: number, state: string, at: string, processes: number, digest: string | null }} Generation
 * @typedef {{
 *   name: string, description: string, state: "serving" | "failed" | "removed", kind: string | null,
 *   generation: number | null, previous: number | null, loaded: string | null, processes: number,
 *   digest: string | null, calls: string[], grants: Grants | null, error: string | null, generations: Generation[],
 * }} Plugin
 * @typedef {{
 *   id: string, label: string, scopes: string[], created: string, expires: string | null, used: string | null,
 * }} Token
 * @typedef {{
 *   Slug: string, URL: string, Tagline: string, EntityCount: number, BundleCount: number, LastEdit: string | null,
 * }} System
 * @typedef {{ Date: string, Title: string, Content: string }} News
 */

const ROOT = "/api/v1/";

/** An answer other than success, with the server's message. The status is 0 if the server cannot be reached. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the operator has disabled the whole API. */
  get disabled() {
    return this.status === 501;
  }
}

/**
 * Returns the message of whatever was thrown.
 * @param {unknown} error
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** Sends `ended` when the session of the caller has ended: by its time, or by the operator. */
export const sessionEnd = new EventTarget();

/**
 * Learns from an answer that the session has ended. A user with a session is refused for no other reason.
 * @param {string} path
 */
function noticeEnd(path) {
  if (!caller.known || !caller.user || path.startsWith("auth")) return;
  setCaller({ User: "", Scopes: [] });
  sessionEnd.dispatchEvent(new Event("ended"));
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 */
async function request(method, path, body) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(ROOT + path, { method, headers, body: JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new ApiError(0, "the server cannot be reached");
  }
  const text = await answer.text();
  let value = null;
  try {
    value = text && JSON.parse(text);
  } catch {
    throw new ApiError(answer.status, `the server answered ${answer.status} without JSON`);
  }
  if (answer.ok) return value;
  if (answer.status === 401) noticeEnd(path);
  throw new ApiError(answer.status, value?.message ?? `the server answered ${answer.status}`);
}

/**
 * Reads bytes of the output of a process, and where they begin.
 * @param {string} path
 * @param {AbortSignal} [signal]
 */
export async function getBytes(path, signal) {
  let answer;
  try {
    answer = await fetch(ROOT + path, { cache: "no-store", signal });
  } catch {
    throw new ApiError(0, "the server cannot be reached");
  }
  if (!answer.ok) {
    const value = await answer.json().catch(() => null);
    throw new ApiError(answer.status, value?.message ?? `the server answered ${answer.status}`);
  }
  /** @param {string} name */
  const number = (name) => Number(answer.headers.get(name) ?? 0);
  const [offset, total] = [number("distillery-offset"), number("distillery-total")];
  return { bytes: new Uint8Array(await answer.arrayBuffer()), offset, total };
}

/** @param {string} path */
export const get = (path) => request("GET", path);
/**
 * @param {string} path
 * @param {unknown} [body]
 */
export const post = (path, body) => request("POST", path, body);
/** @param {string} path */
export const remove = (path) => request("DELETE", path);

/**
 * The caller of the current session. `known` is false until the server has been asked.
 * @type {{ known: boolean, user: string, scopes: string[] }}
 */
export const caller = { known: false, user: "", scopes: [] };

/** @param {{ User: string, Scopes: string[] }} auth */
function setCaller({ User, Scopes }) {
  Object.assign(caller, { known: true, user: User, scopes: Scopes });
  return caller;
}

export async function loadCaller() {
  try {
    return setCaller(await get("auth"));
  } catch (error) {
    // The session has expired: the 401 removed its cookie, so the second request is anonymous.
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    return setCaller(await get("auth"));
  }
}

/**
 * @param {string} user
 * @param {string} password
 */
export async function logIn(user, password) {
  return setCaller(await post("auth/session", { user, password }));
}

export async function logOut() {
  await remove("auth/session");
  return loadCaller();
}

/**
 * Tells whether the caller holds a scope. Decides what the console offers; the server decides what is allowed.
 * @param {string} scope
 */
export function can(scope) {
  return caller.scopes.some((held) => (held.endsWith("*") ? scope.startsWith(held.slice(0, -1)) : held === scope));
}
