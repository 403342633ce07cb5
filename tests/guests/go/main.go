// The conversation of commands/src/bin/conversation.rs in Go, which only compiles to preview 1 modules. Its allocator
// claims the whole memory, so this guest also shows that the host does not adapt such modules.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	var name string
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	fmt.Println("hello", name)
	if name == "fail" {
		os.Exit(3)
	}
	if err := converse(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func converse() error {
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if line = strings.TrimSuffix(line, "\n"); line == "end" {
			return nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if _, err := fmt.Println("echo: " + line); err != nil {
			return err
		}
	}
}
