# Runs the script that is the first argument, and ends with its status.
begin
  $stdout.sync = true
  $0 = ARGV.shift or abort "name a script"
  load File.expand_path($0)
  exit!(0)
rescue SystemExit => e
  exit!(e.status)
rescue Exception => e
  $stderr.puts e.full_message(highlight: false)
  exit!(1)
end
