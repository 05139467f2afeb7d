// What a maker's program does through a generated client; every answer is what its type says, and nothing is cast.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

const [, , baseUrl, key] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { "x-functions-key": key } });

function expected<T>(name: string, answer: { data?: T; response: Response }): T {
  if (answer.data === undefined) throw new Error(`${name}: ${answer.response.status}`);
  console.log(`${name} ${answer.response.status}`);
  return answer.data;
}

const found = expected("ListContacts", await client.GET("/contacts", { params: { query: { name: "anna" } } }));
const anna: components["schemas"]["TitledContact"] = found.data[0];

const first = expected("GetContacts", await client.GET("/trigger/contacts", { params: { query: { state: "now" } } }));
const none: components["schemas"]["Contact"][] = first.data;
const state: string | undefined = first.state;
if (none.length > 0 || !state) throw new Error("a poll does not begin with the present");

const byId = { params: { path: { contact_id: anna.contactID } } };
const one = expected("GetContactsByID", await client.GET("/contacts/{contact_id}", byId));
const name: string | null | undefined = one.data.firstname;
if (name !== "Anna" || anna.title !== "Anna Bērziņa") throw new Error("another contact");

expected("ListCallHistory", await client.GET("/call_history", { params: { query: { direction: "in", limit: 5 } } }));
expected("GetGroups", await client.GET("/trigger/groups", { params: { query: { state } } }));
expected("GetLostCalls", await client.GET("/lost_calls", { params: { query: { limit: 5 } } }));

const rung = await client.POST("/dial", { body: { destination: "+37127771153", contactID: anna.contactID } });
expected("Dial", rung);

const endpoint = "https://3com.example:10443?sig=1";
const made = expected(
  "CallStarted",
  await client.POST("/webhooks/CallStarted", { body: { endpoint, filter: { direction: "in" }, shape: "cloudevents" } }),
);
const id: string = made.data;

const all = expected("GetSubscriptions", await client.GET("/subscriptions"));
if (all.data.length !== 1) throw new Error("not one subscription");

expected("GetEvents", await client.GET("/events", { params: { query: { type: "CallStarted" } } }));
expected("Unsubscribe", await client.POST("/webhooks/unsubscribe", { body: { endpoint } }));
expected("DeleteWebhookByID", await client.DELETE("/webhooks/{webhook_id}", { params: { path: { webhook_id: id } } }));

const refused = await client.POST("/dial", { body: { destination: "nobody", contactID: anna.contactID } });
if (refused.error === undefined || refused.response.status !== 422) throw new Error("not refused");
const reasons: components["schemas"]["RefusedField"][] | undefined = refused.error.errors;
console.log(`refused ${reasons?.[0]?.path}`);
