// A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

func main() {
	// A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
	// plugin.yaml asks for that with `cleanup: true`.
	if reason := os.Getenv("DISTILLERY_CLEANUP"); reason != "" {
		fmt.Println("cleaning up after:", reason)
		return
	}

	// A Reader rather than a Scanner, which gives up at lines of 64 KiB.
	in := bufio.NewReader(os.Stdin)
	// Arguments: the call's own name, then its parameters.
	var name string
	if len(os.Args) > 1 {
		name = os.Args[1]
	} else {
		// A prompt needs no line break: it is sent when the program waits for input.
		fmt.Print("What is your name? ")
		name, _ = hear(in)
	}
	fmt.Println("hello", name)
	for {
		line, ok := hear(in)
		if !ok {
			break
		}
		switch line {
		case "end":
			return
		case "fail":
			// A failure. What it had written to stderr would follow the status in the message.
			os.Exit(3)
		}
		fmt.Println("echo:", line)
	}

	// The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
	fmt.Println("goodbye")
}

// hear gives the next line without its end, and whether there was one.
func hear(in *bufio.Reader) (string, bool) {
	line, err := in.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err == nil || line != ""
}
