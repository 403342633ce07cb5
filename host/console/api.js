// The JSON API as the console asks it, and who is asking.

const ROOT = "/api/v1/";

// An answer that is no success, with the server's own sentence.
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  // The whole API is off: nothing else is to be asked.
  get off() {
    return this.status === 501;
  }
}

async function request(method, path, body) {
  const options = { method, headers: { accept: "application/json" }, cache: "no-store" };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(ROOT + path, options);
  } catch {
    throw new Refused(0, "the server cannot be reached");
  }
  const text = await answer.text();
  let value = null;
  try {
    value = text && JSON.parse(text);
  } catch {
    throw new Refused(answer.status, `the server answered ${answer.status}, and not with JSON`);
  }
  if (answer.ok) return value;
  throw new Refused(answer.status, value?.message ?? `the server answered ${answer.status}`);
}

export const get = (path) => request("GET", path);
export const post = (path, body) => request("POST", path, body);
export const remove = (path) => request("DELETE", path);

// Whoever the session says. `known` is false before the server was asked.
export const caller = { known: false, user: "", scopes: [] };

function know({ User, Scopes }) {
  Object.assign(caller, { known: true, user: User, scopes: Scopes });
  return caller;
}

export async function whoAmI() {
  try {
    return know(await get("auth"));
  } catch (error) {
    // A session that is over: that answer has taken it from the browser, and the next one is nobody's.
    if (error.status !== 401) throw error;
    return know(await get("auth"));
  }
}

export async function logIn(user, password) {
  return know(await post("auth/session", { user, password }));
}

export async function logOut() {
  await remove("auth/session");
  return whoAmI();
}

// Whether the caller holds a scope, which decides what is offered. What is allowed the server decides.
export function may(scope) {
  return caller.scopes.some((held) => (held.endsWith("*") ? scope.startsWith(held.slice(0, -1)) : held === scope));
}
