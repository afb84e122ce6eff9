// Keeps a person, finds them again, and reads why a call was refused.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"multimail"
	multimailv1 "multimail/v1"
)

func main() {
	options := append(multimail.Options(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	connection, err := grpc.NewClient(os.Getenv("MULTIMAIL_TARGET"), options...)
	must(err)
	defer connection.Close()
	contacts := multimailv1.NewContactServiceClient(connection)
	key := "Bearer " + os.Getenv("MULTIMAIL_API_KEY")
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", key)

	plan, err := structpb.NewStruct(map[string]any{"plan": "pro"})
	must(err)
	upserted, err := contacts.UpsertContact(ctx, &multimailv1.UpsertContactRequest{Email: "elena@acmecorp.com", Metadata: plan})
	must(err)
	fmt.Println(upserted.Outcome, upserted.Contact.Email)
	found, err := contacts.SearchContacts(ctx, &multimailv1.SearchContactsRequest{Filter: `metadata.plan = "pro"`})
	must(err)
	fmt.Println(len(found.Contacts), "found:", found.Contacts[0].Email)
	_, err = contacts.GetContact(ctx, &multimailv1.GetContactRequest{Contact: &multimailv1.GetContactRequest_Email{Email: "nobody@acmecorp.com"}})
	for _, detail := range status.Convert(err).Details() {
		switch known := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Println(status.Code(err), known.Reason)
		case *errdetails.ResourceInfo:
			fmt.Println(known.ResourceType)
		}
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
