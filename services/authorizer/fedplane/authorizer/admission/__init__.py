"""The guard on the hub: who may ask for a collaborator's certificate, judged when the request is made."""
