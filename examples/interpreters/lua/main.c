/* Runs a script with its arguments, as `lua SCRIPT ARGUMENTS` does: the interpreter of a distribution needs more of an
   operating system than WASI has. */
#include <stdio.h>
#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

/* Named by the libraries io and os, and absent from WASI. */
int system(const char *command) { (void)command; return -1; }
FILE *tmpfile(void) { return NULL; }
char *tmpnam(char *name) { (void)name; return NULL; }

static int traceback(lua_State *lua) {
    const char *message = luaL_tolstring(lua, 1, NULL);
    luaL_traceback(lua, lua, message, 1);
    return 1;
}

static int run(lua_State *lua, int argc, char **argv) {
    lua_pushcfunction(lua, traceback);
    if (luaL_loadfile(lua, argv[1])) return 1;
    for (int i = 2; i < argc; i++) lua_pushstring(lua, argv[i]);
    return lua_pcall(lua, argc - 2, 0, 1);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fputs("name a script\n", stderr);
        return 2;
    }
    lua_State *lua = luaL_newstate();
    luaL_openlibs(lua);
    luaL_checkstack(lua, argc + 8, "too many arguments");
    lua_createtable(lua, argc, 1);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(lua, argv[i]);
        lua_rawseti(lua, -2, i - 1);
    }
    lua_setglobal(lua, "arg");
    int failed = run(lua, argc, argv);
    if (failed) fprintf(stderr, "lua: %s\n", lua_tostring(lua, -1));
    lua_close(lua);
    return failed ? 1 : 0;
}
