/** Client of Colloquy, and the API, generated from its protos. */

export { Code } from "@connectrpc/connect";

export { createClient, newRequestId } from "./client.ts";
export type {
  ClientOptions,
  ColloquyClient,
  RegenerateOptions,
  SendOptions,
  WatchOptions,
} from "./client.ts";
export {
  addHistory,
  applyEvent,
  emptyConversation,
  isFinal,
  unseen,
} from "./conversation_state.ts";
export type { ConversationState, HeldMessage } from "./conversation_state.ts";
export { ColloquyError, OutOfOrder, toColloquyError } from "./errors.ts";
export type { UploadOptions } from "./files.ts";
export type { Timing } from "./retry.ts";
export { Events, Reply } from "./streams.ts";
export { codePointLength } from "./text.ts";
export * from "./gen/conversation/v1/admin_service_pb.ts";
export * from "./gen/conversation/v1/attachment_service_pb.ts";
export * from "./gen/conversation/v1/conversation_service_pb.ts";
export * from "./gen/conversation/v1/error_reason_pb.ts";
export * from "./gen/conversation/v1/resources_pb.ts";
export * from "./gen/conversation/v1/session_service_pb.ts";
