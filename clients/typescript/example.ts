// Keeps a person, finds them again, and reads why a call was refused.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema, ResourceInfoSchema } from "multimail/errors";
import { UpsertOutcome } from "multimail/v1/contact";
import { ContactService } from "multimail/v1/contact_service";

const transport = createGrpcTransport({
  baseUrl: `http://${process.env.MULTIMAIL_TARGET}`,
  interceptors: [
    (next) => (request) => {
      request.header.set("authorization", `Bearer ${process.env.MULTIMAIL_API_KEY}`);
      return next(request);
    },
  ],
  defaultTimeoutMs: 30_000,
  pingIntervalMs: 15_000,
  pingTimeoutMs: 10_000,
});
const contacts = createClient(ContactService, transport);

const upserted = await contacts.upsertContact({ email: "elena@acmecorp.com", metadata: { plan: "pro" } });
console.log(UpsertOutcome[upserted.outcome], upserted.contact?.email);
const found = await contacts.searchContacts({ filter: 'metadata.plan = "pro"' });
console.log(found.contacts.length, "found:", found.contacts[0].email);
try {
  await contacts.getContact({ contact: { case: "email", value: "nobody@acmecorp.com" } });
} catch (error) {
  const refused = ConnectError.from(error);
  for (const info of refused.findDetails(ErrorInfoSchema)) console.log(Code[refused.code], info.reason);
  for (const info of refused.findDetails(ResourceInfoSchema)) console.log(info.resourceType);
}
