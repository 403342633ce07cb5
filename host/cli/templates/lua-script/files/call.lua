-- A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.
io.stdout:setvbuf("no")

-- A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
-- `cleanup: true` in plugin.yaml asks for that.
local reason = os.getenv("DISTILLERY_CLEANUP")
if reason then
  print("cleaning up after: " .. reason)
  os.exit()
end

-- The parameters of the call.
local name = ...
if not name then
  -- A prompt needs no line break: it is sent when the program waits for input.
  io.write("What is your name? ")
  name = io.read() or ""
end
print("hello " .. name)
for line in io.lines() do
  if line == "end" then
    os.exit()
  elseif line == "fail" then
    -- A failure. What it had written to stderr would follow the status in the message.
    os.exit(3)
  end
  io.write("echo: ", line, "\n")
end

-- The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
print("goodbye")
