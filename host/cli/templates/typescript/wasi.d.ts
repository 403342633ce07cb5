// The part of WASI that wit/call.wit takes, for the compiler.
declare module "wasi:cli/environment@0.2.12" {
  export function getArguments(): string[];
  export function getEnvironment(): [string, string][];
}

declare module "wasi:cli/exit@0.2.12" {
  export function exitWithCode(status: number): never;
}

declare module "wasi:cli/stdin@0.2.12" {
  export function getStdin(): { blockingRead(length: bigint): Uint8Array };
}

declare module "wasi:cli/stdout@0.2.12" {
  export function getStdout(): { blockingWriteAndFlush(bytes: Uint8Array): void };
}

declare class TextEncoder {
  encode(text: string): Uint8Array;
}

declare class TextDecoder {
  decode(bytes: Uint8Array, options?: { stream: boolean }): string;
}
