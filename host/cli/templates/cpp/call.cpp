// A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines.
#include <cstdlib>
#include <iostream>
#include <string>

int main(int argc, char **argv)
{
    // A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
    // plugin.yaml asks for that with `cleanup: true`.
    if (const char *reason = std::getenv("DISTILLERY_CLEANUP")) {
        std::cout << "cleaning up after: " << reason << std::endl;
        return 0;
    }

    // Arguments: the call's own name, then its parameters.
    std::string name;
    if (argc > 1) {
        name = argv[1];
    } else {
        // A prompt needs no line break: it is sent when the program waits for input.
        std::cout << "What is your name? " << std::flush;
        std::getline(std::cin, name);
    }
    // std::endl sends the line; '\n' would leave it in a buffer until that is full.
    std::cout << "hello " << name << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
        if (line == "end")
            return 0;
        // A failure. What it had written to stderr would follow the status in the message.
        if (line == "fail")
            return 3;
        std::cout << "echo: " << line << std::endl;
    }

    // The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself.
    std::cout << "goodbye" << std::endl;
    return 0;
}
