"""What happened to a job, in numbers, words and charts. Pure: from records to a document, and from that to pages."""
