// Runs the client against a server: `drive.js ADDRESS` prints each conversation that succeeds, and stops at the first that
// fails.

import { Call, type Connect, Polled, Refused, type Result } from "./client.js";

declare const process: { argv: string[]; exit(status: number): never };

// @ts-expect-error The package has no types. It has the interface of browsers.
const { WebSocket: NodeSocket } = await import("ws");

const address = process.argv[2];
const socketUrls = [`ws://${address}/api/v1/ws`, `ws://${address}/api/v1/pow/`, `ws://${address}/api/v1/pow/any/where`];
const base = `http://${address}/api/v1/pow/`;
const connect: Connect = (url, protocols) => new NodeSocket(url, protocols);

function same(actual: unknown, expected: unknown): void {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (left !== right) {
    throw new Error(`expected ${right}, got ${left}`);
  }
}

function check(holds: boolean, message: string): void {
  if (!holds) {
    throw new Error(message);
  }
}

/** A call and its output so far. */
class Talk {
  output = "";
  readonly call: Call;
  private awake: () => void = () => {};

  constructor(name: string, params: string[] = [], url = socketUrls[0]!) {
    const onOutput = (text: string) => {
      this.output += text;
      this.awake();
    };
    this.call = new Call(url, { call: name, params }, onOutput, connect);
    this.call.result.finally(() => this.awake()).catch(() => {});
  }

  async receive(text: string): Promise<void> {
    const ended = this.call.result.then(
      (result) => {
        throw new Error(`ended with ${JSON.stringify(result)} before ${JSON.stringify(text)} came: ${this.output}`);
      },
      (error) => {
        throw error;
      },
    );
    ended.catch(() => {});
    while (!this.output.includes(text)) {
      await Promise.race([new Promise<void>((resolve) => (this.awake = resolve)), ended]);
    }
  }

  get result(): Promise<Result> {
    return this.call.result;
  }
}

async function refused(what: Promise<unknown>): Promise<Refused> {
  try {
    await what;
  } catch (error) {
    if (error instanceof Refused) {
      return error;
    }
    throw error;
  }
  throw new Error("the request was not refused");
}

const fulfilled: Result = { status: "fulfilled", value: null };

const conversations: Record<string, () => Promise<void>> = {
  async "a call answers at each address"() {
    for (const url of socketUrls) {
      const talk = new Talk("conversation", ["Ada"], url);
      await talk.call.input("one\ntwo\nend\n");
      same(await talk.result, fulfilled);
      same(talk.output, "hello Ada\necho: one\necho: two\n");
    }
  },

  async "half a line waits for its other half"() {
    const talk = new Talk("conversation", ["Ada"]);
    await talk.call.input("hal");
    await talk.call.input("f\n");
    await talk.receive("echo: half\n");
    await talk.call.input("end\n");
    same(await talk.result, fulfilled);
  },

  async "a prompt comes without a line break"() {
    const talk = new Talk("prompt");
    await talk.receive("name? ");
    same(talk.output, "name? ");
    await talk.call.input("Ada\n");
    await talk.result;
    check(talk.output.includes("hello Ada"), talk.output);
  },

  async "closing the input ends the process"() {
    const talk = new Talk("conversation", ["Ada"]);
    await talk.receive("hello Ada\n");
    await talk.call.closeInput();
    same(await talk.result, fulfilled);
  },

  async "a cancel reaches the process"() {
    const talk = new Talk("says_goodbye");
    await talk.receive("\n");
    await talk.call.cancel();
    const result = await talk.result;
    same(result, { status: "rejected", reason: "cancelled by the client" });
    check(talk.output.includes("goodbye"), talk.output);
  },

  async "a cancel overtakes unread input"() {
    const talk = new Talk("spin");
    for (let frame = 0; frame < 50; frame += 1) {
      await talk.call.input("x".repeat(2000));
    }
    await talk.call.cancel();
    await talk.call.cancel();
    const result = await talk.result;
    check(
      result.status === "rejected" && result.reason.startsWith("cancelled by the client (forced after "),
      JSON.stringify(result),
    );
  },

  async "a large form is one parameter"() {
    const form = JSON.stringify({ Slug: "x", Text: "ä".repeat(100_000) });
    const talk = new Talk("args", [form]);
    same(await talk.result, fulfilled);
    check(talk.output.includes(form), "the parameter did not come back");
  },

  async "a character split by writes arrives whole"() {
    const talk = new Talk("cut_char");
    same(await talk.result, fulfilled);
    check(talk.output.length > 0, "nothing came");
  },

  async "the value of a success comes from the guest"() {
    const talk = new Talk("told", ["value", '{"made": 3}']);
    same(await talk.result, { status: "fulfilled", value: { made: 3 } });
  },

  async "a failure says why"() {
    const result = await new Talk("stderr_words").result;
    check(result.status === "rejected" && result.reason.length > 0, JSON.stringify(result));
    const unknown: Result = { status: "rejected", reason: "failed to get process: unknown process" };
    same(await new Talk("nowhere").result, unknown);
  },

  async "a call answers by polling"() {
    const call = await Polled.start(base, { call: "conversation", params: ["Ada"] });
    same(await call.input("one"), "input sent");
    same(await call.closeInput(), "input closed");
    same(await call.ended(), { buffer: "hello Ada\necho: one", result: fulfilled });
  },

  async "polling from an offset returns new output"() {
    const call = await Polled.start(base, { call: "conversation", params: ["Ada"] });
    await call.input("one");
    await call.input("end");
    const { buffer } = await call.ended();
    same(buffer, "hello Ada\necho: one");
    const later = await call.status("hello Ada\n".length);
    same(later.buffer, "echo: one\n");
  },

  async "a polled call is cancelled"() {
    const call = await Polled.start(base, { call: "says_goodbye" });
    same(await call.cancel(), "process cancelled");
    same((await call.ended()).result, { status: "rejected", reason: "cancelled by the client" });
  },

  async "an unfinished last line is in the buffer"() {
    const call = await Polled.start(base, { call: "no_newline", params: null });
    const { buffer, result } = await call.ended();
    same(result, fulfilled);
    check(buffer.length > 0, "the last line is missing");
  },

  async "unknown calls and processes are refused"() {
    same((await refused(Polled.start(base, { call: "nowhere" }))).status, 404);
    same((await refused(Polled.at(base, "00000000-0000-4000-8000-000000000000").status())).status, 404);
    const call = await Polled.start(base, { call: "conversation", params: ["fail"] });
    await call.ended();
    same((await refused(call.input("late"))).status, 409);
  },
};

for (const [name, conversation] of Object.entries(conversations)) {
  try {
    await conversation();
  } catch (error) {
    console.error(`${name}: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
  console.log(`ok: ${name}`);
}
process.exit(0);
