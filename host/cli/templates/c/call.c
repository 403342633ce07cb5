/* A call. What it prints goes to its caller line by line, and what the caller sends comes in as lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The next line without its end, or NULL when the input has ended. It is overwritten by the next one. */
static char *hear(void)
{
    static char *line;
    static size_t size;
    ssize_t length = getline(&line, &size, stdin);
    if (length < 0)
        return NULL;
    if (length > 0 && line[length - 1] == '\n')
        line[length - 1] = '\0';
    return line;
}

int main(int argc, char **argv)
{
    /* stdout is no terminal here, so that C would keep lines to itself until it has many. */
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);

    /* A cancelled call that did not end in time is stopped, and then run once more to tidy up behind itself:
       plugin.yaml asks for that with `cleanup: true`. */
    const char *reason = getenv("DISTILLERY_CLEANUP");
    if (reason) {
        printf("cleaning up after: %s\n", reason);
        return 0;
    }

    /* Arguments: the call's own name, then its parameters. */
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) {
        /* A prompt needs no line break: it is sent when the program waits for input. */
        printf("What is your name? ");
        fflush(stdout);
        name = hear();
    }
    printf("hello %s\n", name ? name : "");
    for (char *line; (line = hear());) {
        if (strcmp(line, "end") == 0)
            return 0;
        /* A failure. What it had written to stderr would follow the status in the message. */
        if (strcmp(line, "fail") == 0)
            return 3;
        printf("echo: %s\n", line);
    }

    /* The input ends when the call is cancelled. Now it has its grace, two seconds, to end by itself. */
    printf("goodbye\n");
    return 0;
}
