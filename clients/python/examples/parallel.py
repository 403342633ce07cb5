"""A hundred calls in parallel, with asyncio. One that fails does not end the others.

    parallel.py [COUNT]
"""

import asyncio
import sys

from distillery_client import AsyncDistillery, DistilleryError

# The server runs as many at a time as it has slots; this is the number that this client asks for.
AT_ONCE = 50


async def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    server = AsyncDistillery.from_env()
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        async with slots:
            ran = await server.run("echo", "1", input=f"call {number}\n")
            return ran.stdout.strip()

    ended = await asyncio.gather(*map(one, range(count)), return_exceptions=True)
    failed = [error for error in ended if isinstance(error, BaseException)]
    print(f"{count - len(failed)} of {count} calls had success")
    if failed:
        sys.exit(str(failed[0]))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except DistilleryError as error:
        sys.exit(str(error))
