# A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.
use strict;
use warnings;
$| = 1;

# A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
# `cleanup: true` in plugin.yaml asks for that.
if (my $reason = $ENV{DISTILLERY_CLEANUP}) {
    print "cleaning up after: $reason\n";
    exit;
}

# The parameters of the call.
my $name = $ARGV[0];
if (!defined $name) {
    # A prompt needs no line break: it is sent when the program waits for input.
    print "What is your name? ";
    $name = <STDIN> // "";
    chomp $name;
}
print "hello $name\n";
while (defined(my $line = <STDIN>)) {
    chomp $line;
    exit if $line eq "end";
    # A failure. What it had written to stderr would follow the status in the message.
    exit 3 if $line eq "fail";
    print "echo: $line\n";
}

# The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
print "goodbye\n";
