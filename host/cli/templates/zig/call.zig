//! A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.
const std = @import("std");

pub fn main(init: std.process.Init) !void {
    var out_buffer: [4096]u8 = undefined;
    var stdout: std.Io.File.Writer = .initStreaming(.stdout(), init.io, &out_buffer);
    const out = &stdout.interface;

    // A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
    // plugin.yaml asks for that with `cleanup: true`.
    if (init.environ_map.get("DISTILLERY_CLEANUP")) |reason| {
        try out.print("cleaning up after: {s}\n", .{reason});
        return out.flush();
    }

    const arena = init.arena.allocator();
    // No line can be longer than this.
    const in_buffer = try arena.alloc(u8, 1 << 20);
    var stdin: std.Io.File.Reader = .initStreaming(.stdin(), init.io, in_buffer);
    const in = &stdin.interface;

    // Arguments: the call's own name, then its parameters.
    const arguments = try init.minimal.args.toSlice(arena);
    const name = if (arguments.len > 1) arguments[1] else ask: {
        // A prompt needs no line break: it is sent when the program waits for input.
        try out.writeAll("What is your name? ");
        try out.flush();
        break :ask try arena.dupe(u8, try in.takeDelimiter('\n') orelse "");
    };
    try out.print("hello {s}\n", .{name});
    try out.flush(); // until then, it stays in the buffer
    while (try in.takeDelimiter('\n')) |line| {
        if (std.mem.eql(u8, line, "end")) return;
        // A failure. What it had written to stderr would follow the status in the message.
        if (std.mem.eql(u8, line, "fail")) std.process.exit(3);
        try out.print("echo: {s}\n", .{line});
        try out.flush();
    }

    // The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
    try out.writeAll("goodbye\n");
    try out.flush();
}
