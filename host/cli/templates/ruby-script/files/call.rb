# A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.

# A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
# `cleanup: true` in plugin.yaml asks for that.
if (reason = ENV["DISTILLERY_CLEANUP"])
  puts "cleaning up after: #{reason}"
  exit
end

# The parameters of the call.
name = ARGV[0]
unless name
  # A prompt needs no line break: it is sent when the program waits for input.
  print "What is your name? "
  name = $stdin.gets&.chomp || ""
end
puts "hello #{name}"
while (line = $stdin.gets)
  line.chomp!
  exit if line == "end"
  # A failure. What it had written to stderr would follow the status in the message.
  exit 3 if line == "fail"
  puts "echo: #{line}"
end

# The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
puts "goodbye"
