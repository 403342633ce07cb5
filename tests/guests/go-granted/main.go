// Granted commands in Go: `granted_go NAME [PARAM=VALUE...]` gives the command its stdin, copies both outputs, and ends
// with its status. Go makes modules of WASI preview 1, which have functions for this: see docs/reference/preview1.md.
package main

import (
	"fmt"
	"os"
	"strings"
)

//go:wasmimport distillery_call command_start
func commandStart(name string, params string, command *uint32) int32

//go:wasmimport distillery_call command_poll
func commandPoll(command uint32, wanted uint32, timeout int32) uint32

//go:wasmimport distillery_call command_read
func commandRead(command uint32, stream uint32, buffer *byte, size uint32) int32

//go:wasmimport distillery_call command_write
func commandWrite(command uint32, data *byte, length uint32) int32

//go:wasmimport distillery_call command_close
func commandClose(command uint32)

//go:wasmimport distillery_call command_status
func commandStatus(command uint32) int32

//go:wasmimport distillery_call command_error
func commandError(buffer *byte, size uint32) uint32

// What commandPoll waits for.
const (
	stdin  = 1
	stdout = 2
	stderr = 4
	ended  = 8
	input  = 16
)

func reason() string {
	buffer := make([]byte, 1024)
	length := commandError(&buffer[0], uint32(len(buffer)))
	return string(buffer[:min(int(length), len(buffer))])
}

func main() {
	var params strings.Builder
	for _, argument := range os.Args[2:] {
		name, value, _ := strings.Cut(argument, "=")
		params.WriteString(name + "\x00" + value + "\x00")
	}
	var command uint32
	if commandStart(os.Args[1], params.String(), &command) != 0 {
		fmt.Fprintln(os.Stderr, reason())
		os.Exit(1)
	}
	pump(command)
	status := commandStatus(command)
	if text := reason(); status >= 256 {
		fmt.Fprintln(os.Stderr, text)
		status -= 128
	}
	os.Exit(int(status))
}

// pump copies all three streams until the command has ended.
func pump(command uint32) {
	buffer, sending, feeds := make([]byte, 16384), []byte{}, true
	outputs := uint32(stdout | stderr)
	for {
		wanted := outputs
		if outputs == 0 {
			wanted = ended
		}
		if feeds && len(sending) > 0 {
			wanted |= stdin
		} else if feeds {
			wanted |= input
		}
		ready := commandPoll(command, wanted, -1)
		for stream, output := range []*os.File{os.Stdout, os.Stderr} {
			bit := uint32(stdout << stream)
			if ready&bit == 0 {
				continue
			}
			count := commandRead(command, uint32(stream+1), &buffer[0], uint32(len(buffer)))
			if count < 0 {
				outputs &^= bit
			} else {
				output.Write(buffer[:count])
			}
		}
		if ready&input != 0 {
			taken := make([]byte, 16384)
			count, err := os.Stdin.Read(taken)
			sending, feeds = taken[:count], err == nil
		}
		if ready&stdin != 0 {
			count := commandWrite(command, &sending[0], uint32(len(sending)))
			if count < 0 {
				sending, feeds = nil, false
			} else {
				sending = sending[count:]
			}
		}
		if !feeds {
			commandClose(command)
		}
		if ready&ended != 0 {
			return
		}
	}
}
